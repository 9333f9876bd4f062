"""Base classes of the augmentations: what a transform draws, and what it does with that.

A transform first samples its parameters, (B,) numbers by name, then applies them. So the parameters
can be written to a file and applied again. They are sampled on the CPU: that takes about a hundred
tiny operations, which are slow to launch on an accelerator.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from src.core.randomness import CounterRNG
from src.core.transfer import to_device

Values = dict[str, Tensor]  # a transform's parameters, each (B,)
Size = tuple[int, int]  # height and width


class Transform(ABC):
    """Base of all transforms."""

    @abstractmethod
    def sample(self, rng: CounterRNG, size: Size) -> Values:
        """Draw the parameters for a batch of images of `size`, each (B,)."""


class Geometric(Transform):
    """A transform that moves pixels. `Augment` composes all of them into one warp per image."""

    @abstractmethod
    def matrix(self, values: Values, size: Size) -> Tensor:
        """Return the maps (B, 3, 3) from output to input coordinates.

        A coordinate is (x, y, 1) in pixels from the image center, with y pointing down.
        """


class PixelWise(Transform):
    """A transform that changes pixel values in place."""

    @abstractmethod
    def apply(self, images: Tensor, values: Values, rng: CounterRNG) -> Tensor:
        """Change images (B, C, H, W) in [0, 1]; return the same shape, in any range."""


class Mixing(Transform):
    """A transform that mixes each image with another image of its batch."""

    @abstractmethod
    def mix(self, images: Tensor, others: Tensor, values: Values) -> tuple[Tensor, Tensor]:
        """Mix images with their partners, both (B, C, H, W).

        Returns:
            The mixed images, and the share of the first image in each: (B,), or (B, 1, 1, 1).
        """


def uniform(rng: CounterRNG, low: float, high: float) -> Tensor:
    """Draw uniform numbers in [low, high), (B,) float64."""
    return rng.uniform().double() * (high - low) + low


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """Return maps (B, 3, 3) float64 that scale x and y by factors (B,)."""
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], 1).double())


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """Return values (B,) as (B, 1, 1, 1), with the dtype and device of `images`."""
    return to_device(values.to(images.dtype), images.device).view(-1, 1, 1, 1)


def inside_box(values: Values, half_side: Tensor, images: Tensor) -> Tensor:
    """Return which pixels are inside a box of the shape of the image, (B, 1, H, W) bool.

    Args:
        values: x and y, the box center, as fractions of width and height, (B,).
        half_side: half the side of the box, as a fraction of each image side, (B,).
        images: (B, C, H, W), for their size and device.
    """
    inside = []
    for length, center in zip(images.shape[2:], (values["y"], values["x"]), strict=True):
        position = (torch.arange(length) + 0.5) / length
        inside.append((position - center.view(-1, 1)).abs() < half_side.view(-1, 1))
    box = (inside[0].unsqueeze(2) & inside[1].unsqueeze(1)).unsqueeze(1)
    return to_device(box, images.device)
