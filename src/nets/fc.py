"""Fully connected generator and discriminator: the nets of `model=gan` and `model=lsgan`."""

import math
from collections.abc import Sequence

from torch import nn

from src.core.types import ImageSize, PositiveInt, Probability


def generator(
    latent: PositiveInt,
    channels: PositiveInt,
    size: ImageSize,
    hidden: Sequence[PositiveInt] = (1024, 1024),
) -> nn.Sequential:
    """latent-1024-1024-pixels with ReLU and tanh: z (B, latent) -> images (B, C, H, W) in [-1, 1]."""
    shape = (channels, size, size) if isinstance(size, int) else (channels, *size)
    layers: list[nn.Module] = []
    for n_in, n_out in zip([latent, *hidden[:-1]], hidden, strict=True):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(
        *layers, nn.Linear(hidden[-1], math.prod(shape)), nn.Tanh(), nn.Unflatten(1, shape)
    )


def discriminator(
    channels: PositiveInt,
    size: ImageSize,
    hidden: Sequence[PositiveInt] = (256, 256),
    slope: Probability = 0.01,
) -> nn.Sequential:
    """pixels-256-256-1 with LeakyReLU: images (B, C, H, W) in [-1, 1] -> raw scores (B, 1)."""
    pixels = size * size if isinstance(size, int) else math.prod(size)
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in zip([channels * pixels, *hidden[:-1]], hidden, strict=True):
        layers += [nn.Linear(n_in, n_out), nn.LeakyReLU(slope)]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], 1))
