"""scikit-learn's bundled digits: 1,797 scans of 8 x 8 pixels, no download."""

import torch
import torch.nn.functional as F

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
        from sklearn.datasets import load_digits  # takes a second to import: only for this set

        digits = load_digits()
        # values 0..16 -> (N, 1, 8, 8) in [0, 1]
        scans = torch.from_numpy(digits.images).float().div(16).unsqueeze(1)
        enlarged = F.interpolate(scans, (20, 20), mode="bicubic").clamp(0, 1)
        pixels = F.pad(enlarged, (4, 4, 4, 4)).mul(255).round().byte()  # (N, 1, 28, 28)
        images = ImageSet(pixels, torch.from_numpy(digits.target).long())
        return split_off_test(images, self.test_size, self.split_seed, self.name)
