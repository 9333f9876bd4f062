"""Similarity of an image to the true one: PSNR and SSIM."""

from typing import cast

from torch import Tensor

from src.core.errors import UserError
from src.metrics.precision import float64

MIN_SIDE = 6  # pixels; the border of an image is reflected by 5


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
    predicted, true = float64(predicted), float64(true)
    return cast(Tensor, structural_similarity_index_measure(predicted, true, data_range=1.0))
