"""Similarity of an image to the true one: PSNR and SSIM."""

from typing import cast

import torch
from torch import Tensor

from src.core.errors import UserError
from src.metrics.precision import float64

MIN_SIDE = 6  # pixels; the border of an image is reflected by 5
CHUNK = 8  # images: 64 of 32 x 32 pixels would take 1 GB at once


def psnr(predicted: Tensor, true: Tensor) -> Tensor:
    """Return the mean peak signal-to-noise ratio in dB, in float64.

    Args:
        predicted, true: images (B, C, H, W) in [0, 1].
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio  # slow to import

    return peak_signal_noise_ratio(
        float64(predicted),
        float64(true),
        data_range=1.0,
        dim=(1, 2, 3),
        reduction="elementwise_mean",
    )


def ssim(predicted: Tensor, true: Tensor) -> Tensor:
    """Return the mean structural similarity (Wang 2004).

    It is computed in float64, because it subtracts nearly equal squares, and because its
    convolutions would run in bf16 under autocast.

    Args:
        predicted, true: images (B, C, H, W) in [0, 1].

    Raises:
        UserError: a side is shorter than 6 pixels, so that its window of 11 x 11 does not fit even
            with the border reflected.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    height, width = true.shape[2:]
    if min(height, width) < MIN_SIDE:
        raise UserError(
            f"images of {width} x {height} are too small for SSIM: it needs {MIN_SIDE} x {MIN_SIDE}"
        )
    pairs = zip(float64(predicted).split(CHUNK), float64(true).split(CHUNK), strict=True)
    values = [
        structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
        for a, b in pairs
    ]
    return torch.cat([cast(Tensor, each).reshape(-1) for each in values]).mean()
