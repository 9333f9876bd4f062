"""How a classifier normalizes its images."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.core.types import Positive, Probability


@dataclass(frozen=True)
class Normalize:
    """The mean that a network subtracts from its images, and the std that it divides them by.

    Args:
        mean, std: moments of images in [0, 1], one number or one per channel. None: those of the
            training images, or those of a pretrained network, whose first layer expects them.
        whiten: start the first convolution with the principal components of the training images
            (see `src.nets.init.whiten`).
    """

    mean: Probability | Sequence[Probability] | None = None
    std: Positive | Sequence[Positive] | None = None
    whiten: bool = False

    @property
    def unset_moments(self) -> list[str]:
        """Which of mean and std the config leaves unset."""
        return [name for name in ("mean", "std") if getattr(self, name) is None]


def normalized(x: Tensor, mean: Tensor, std: Tensor, channels: int) -> Tensor:
    """Return (x - mean) / std in channels_last format; a gray x is repeated over `channels`.

    Args:
        x: images (B, C, H, W) in [0, 1].
        mean, std: (C or 1, 1, 1).
    """
    x = (x - mean) / std
    if x.shape[1] != channels:
        x = x.expand(-1, channels, -1, -1)
    return x.contiguous(memory_format=torch.channels_last)


def in_channels(net: nn.Module, channels: int) -> int:
    """Return the input channels of the first convolution of `net`, or `channels` without one."""
    return next(
        (layer.in_channels for layer in net.modules() if isinstance(layer, nn.Conv2d)), channels
    )
