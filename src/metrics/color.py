"""Per-pixel color baselines for translation, which match the colors of two sets."""

from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


def color_maps(source: Tensor, target: Tensor) -> dict[str, Map]:
    """Fit maps from images like `source` to images like `target`, without pairs.

    Args:
        source, target: (N, C, H, W) and (M, C, H, W) uint8.

    Returns:
        Maps of images (B, C, H, W) in [0, 1] to images of the same kind:
        mean_std: match each channel's mean and standard deviation (Reinhard 2001, in RGB).
        histogram: match each channel's histogram.
        transport: the linear map of least cost between Gaussians of the colors (Pitie 2007).
    """
    mean_a, covariance_a = color_moments(source)
    mean_b, covariance_b = color_moments(target)
    std_a, std_b = (
        # rounding makes the variance of a constant channel negative
        covariance.diagonal().clamp(min=0).sqrt()
        for covariance in (covariance_a, covariance_b)
    )
    scale = torch.where(std_a > 1e-6, std_b / std_a.clamp(min=1e-6), 1.0)
    transport = transport_matrix(covariance_a, covariance_b)
    tables = histogram_tables(source, target)
    return {
        "mean_std": lambda images: _affine(images, mean_a, scale.diag(), mean_b),
        "histogram": lambda images: _apply_tables(images, tables),
        "transport": lambda images: _affine(images, mean_a, transport, mean_b),
    }


def color_moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (C,) and covariance (C, C) of the pixels in [0, 1], both float64.

    Args:
        images: (N, C, H, W) uint8.
    """
    n, channels = 0, images.shape[1]
    total = torch.zeros(channels, dtype=torch.float64)
    products = torch.zeros(channels, channels, dtype=torch.float64)
    for part in images.split(1000):
        pixels = part.double().div(255).transpose(0, 1).flatten(1)  # (C, B * H * W)
        n, total, products = (
            n + pixels.shape[1],
            total + pixels.sum(1),
            products + pixels @ pixels.T,
        )
    mean = total / n
    return mean, products / n - torch.outer(mean, mean)


def transport_matrix(source: Tensor, target: Tensor) -> Tensor:
    """Return S^(-1/2) (S^(1/2) T S^(1/2))^(1/2) S^(-1/2), the symmetric matrix that maps S to T.

    Args:
        source, target: covariances S and T, (C, C).
    """
    root, inverse = _root(source), torch.linalg.pinv(_root(source), hermitian=True)
    return inverse @ _root(root @ target @ root) @ inverse


def histogram_tables(source: Tensor, target: Tensor) -> Tensor:
    """Return a table (C, 256) in [0, 1] that matches each channel's histogram.

    Each value of `source` maps to the smallest value of `target` with at least the same cumulative
    share.
    """
    shares = [_cumulative(images) for images in (source, target)]
    found = torch.searchsorted(shares[1], shares[0] - 1e-12).clamp(max=255)
    return found.double() / 255


def _cumulative(images: Tensor) -> Tensor:
    """Return the share of each channel's pixels that are at most 0, 1, ..., 255, (C, 256)."""
    counts = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in images.unbind(1)])
    return counts.cumsum(1).double() / counts.sum(1, keepdim=True)


def _root(matrix: Tensor) -> Tensor:
    """Return the symmetric square root of a positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T


def _affine(images: Tensor, mean: Tensor, matrix: Tensor, new_mean: Tensor) -> Tensor:
    """Return matrix (x - mean) + new_mean of each pixel x, clipped to [0, 1].

    The sum is written out, because a matrix product would run in bf16 under autocast.
    """
    offset = new_mean - matrix @ mean
    matrix, offset = matrix.to(images), offset.to(images)
    moved = (images.unsqueeze(1) * matrix.unsqueeze(2).unsqueeze(3)).sum(2)
    return (moved + offset.view(-1, 1, 1)).clamp(0, 1)


def _apply_tables(images: Tensor, tables: Tensor) -> Tensor:
    places = (images * 255).round().long()
    tables = tables.to(images)
    return torch.stack([table[places[:, c]] for c, table in enumerate(tables)], 1)
