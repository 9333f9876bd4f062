"""Fully connected generator and discriminator: the networks of `model=gan` and `model=lsgan`.

With num_classes, one-hot labels are appended to both inputs (Mirza 2014): latents
(B, latent_dim + num_classes), images (B, C + num_classes, H, W).
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from torch import nn

from src.core.types import (
    COUNTED,
    ImageSize,
    NonNegativeInt,
    PositiveInt,
    Probability,
    height_width,
)


def generator(
    latent_dim: PositiveInt,
    channels: PositiveInt,
    size: ImageSize,
    hidden_dims: Sequence[PositiveInt] = (1024, 1024),
    num_classes: Annotated[NonNegativeInt, COUNTED] = 0,
) -> nn.Sequential:
    """Return an MLP with ReLU and tanh: z (B, latent_dim) -> images (B, C, H, W) in [-1, 1]."""
    shape = (channels, *height_width(size))
    layers: list[nn.Module] = []
    for n_in, n_out in zip([latent_dim + num_classes, *hidden_dims[:-1]], hidden_dims, strict=True):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(
        *layers, nn.Linear(hidden_dims[-1], math.prod(shape)), nn.Tanh(), nn.Unflatten(1, shape)
    )


def discriminator(
    channels: PositiveInt,
    size: ImageSize,
    hidden_dims: Sequence[PositiveInt] = (256, 256),
    slope: Probability = 0.01,
    num_classes: Annotated[NonNegativeInt, COUNTED] = 0,
    norm: Literal["layer", "none"] = "none",
) -> nn.Sequential:
    """Return an MLP with LeakyReLU: images (B, C, H, W) in [-1, 1] -> logits (B, 1).

    With norm=layer, a LayerNorm precedes each LeakyReLU.
    """
    values = (channels + num_classes) * math.prod(height_width(size))
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in zip([values, *hidden_dims[:-1]], hidden_dims, strict=True):
        norms = [nn.LayerNorm(n_out)] if norm == "layer" else []
        layers += [nn.Linear(n_in, n_out), *norms, nn.LeakyReLU(slope)]
    return nn.Sequential(*layers, nn.Linear(hidden_dims[-1], 1))
