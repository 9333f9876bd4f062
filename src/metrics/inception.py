"""FID, KID and Inception Score on Inception-v3 features, computed by torch-fidelity."""

import sys
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

from src.core.errors import UserError

NAMES = {
    "frechet_inception_distance": "fid_inception",
    "kernel_inception_distance_mean": "kid_inception",
    "inception_score_mean": "is_inception",
}
MIN_IMAGES = 2  # of each set, for a covariance


class ColorImages(Dataset[Any]):
    """uint8 images (N, C, H, W) one by one, in color: gray images are repeated three times.

    Args:
        images: C is 1 or 3.
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index].expand(3, -1, -1)


def inception_weights() -> Path:
    """Return the path of the weights in torch hub's cache; downloads them if they are missing.

    Raises:
        UserError: they cannot be downloaded, or the file is damaged.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(
                URL_INCEPTION_V3, str(path), progress=sys.stderr.isatty()
            )
    except Exception as error:  # urllib, http, ssl and the disk can raise any exception type
        raise UserError(f"{URL_INCEPTION_V3} cannot be fetched into {path} ({error})") from error
    try:  # torch-fidelity would unpickle any code in the file
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile, pickle and torch can raise any exception type
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} is damaged: delete it to fetch it again ({reason})") from error
    return path


def inception_quality(
    samples: Tensor, real: Tensor, weights: Path, device: torch.device
) -> dict[str, float]:
    """Compare samples with real images, with torch-fidelity's settings.

    Args:
        samples, real: (N, C, H, W) uint8, N at least 2.
        weights: see `inception_weights`.
        device: where the network runs; it takes 5.7 GFLOPs per image.

    Returns:
        fid_inception (Heusel 2017); kid_inception, the mean over 100 subsets of at most 1,000
        images (Binkowski 2018); is_inception, the mean over 10 splits (Salimans 2016).
    """
    n = min(len(samples), len(real))
    settings: dict[str, Any] = {
        "input1": ColorImages(samples.cpu()), "input2": ColorImages(real.cpu()),
        "fid": True, "kid": True, "isc": True,
        "feature_extractor_weights_path": str(weights),
        "kid_subset_size": min(1000, n), "isc_splits": min(10, n),
        "cuda": device.type == "cuda", "cache": False, "save_cpu_ram": True, "verbose": False,
    }  # fmt: skip
    measured = cast(dict[str, float], calculate_metrics(**settings))
    return {name: float(measured[key]) for key, name in NAMES.items()}
