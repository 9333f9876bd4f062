"""scikit-learn's bundled digits: 1,797 scans of 8 x 8 pixels, no download."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from src.data.image_data import ImageData
from src.data.images import ImageSet, Splits
from src.data.splits import split_off_test


class Digits(ImageData):
    """UCI's optical recognition digits, framed like MNIST.

    Each scan is enlarged to 20 x 20 (bicubic) in the middle of 28 x 28 pixels, so that networks
    made for MNIST see the whole digit. scikit-learn's copy has no test set, so one is split off by
    `split_seed`.
    """

    def read(self) -> Splits:
        scans, labels = load_digits()
        images = ImageSet(enlarged(scans), labels)
        return split_off_test(images, self.test_size, self.split_seed, self.name)


def enlarged(scans: Tensor) -> Tensor:
    """Return scans (N, 8, 8) from 0 to 16 as images (N, 1, 28, 28) uint8."""
    scans = scans.float().div(16).unsqueeze(1)  # (N, 1, 8, 8) in [0, 1]
    digits = F.interpolate(scans, (20, 20), mode="bicubic").clamp(0, 1)
    return F.pad(digits, (4, 4, 4, 4)).mul(255).round().byte()


def load_digits() -> tuple[Tensor, Tensor]:
    """Read scikit-learn's file of digits, without scikit-learn, whose import takes a second.

    Returns:
        Scans (N, 8, 8) float64 from 0 to 16, and labels (N,) int64.
    """
    package: Any = find_spec("sklearn")
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    rows = torch.from_numpy(np.loadtxt(path, delimiter=","))  # (N, 65), the label last
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].long()
