"""Augmentation of whole batches of training images, on the device that holds them.

Each image has independent random parameters. Geometric transforms are composed into one map per
image and resampled once; then come the pixel-wise transforms, then those that mix images.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from src.core.randomness import CounterRNG
from src.core.transfer import to_device
from src.core.types import Probability
from src.data.transforms.base import Geometric, Mixing, PixelWise, Size, Transform, Values
from src.data.transforms.warp import Border, Interpolation, warp


class Augment:
    """A sequence of transforms.

    Args:
        transforms: by name. Each draws from a generator of that name, so adding or removing one
            does not change the parameters of the others.
        border, interpolation, fill: for the geometric transforms, see `warp`.
    """

    def __init__(
        self,
        transforms: Mapping[str, Transform],
        border: Border = "constant",
        interpolation: Interpolation = "bilinear",
        fill: Probability = 0.0,
    ) -> None:
        self.geometric = {name: t for name, t in transforms.items() if isinstance(t, Geometric)}
        self.pixel_wise = {name: t for name, t in transforms.items() if isinstance(t, PixelWise)}
        self.mixing = {name: t for name, t in transforms.items() if isinstance(t, Mixing)}
        self.border, self.interpolation, self.fill = border, interpolation, fill

    def sample(self, rng: CounterRNG, size: Size) -> dict[str, Values]:
        """Draw the parameters of all transforms but the mixing ones, for images of `size`."""
        return {
            name: transform.sample(rng.fork(name), size)
            for name, transform in (self.geometric | self.pixel_wise).items()
        }

    def apply(self, images: Tensor, values: Mapping[str, Values], rng: CounterRNG) -> Tensor:
        """Apply the parameters that `sample` returned.

        Args:
            images: (B, C, H, W) in [0, 1].
            values: parameters by transform.
            rng: noise that is drawn per pixel comes from here.

        Returns:
            Images of the same shape and range.
        """
        if self.geometric:
            size = (images.shape[2], images.shape[3])
            total = torch.eye(3, dtype=torch.float64)
            # maps go from output to input coordinates: the first transform is the leftmost factor
            for name, geometric in self.geometric.items():
                total = total @ geometric.matrix(values[name], size)
            images = warp(images, total[:, :2], self.border, self.interpolation, self.fill)
        for name, pixel_wise in self.pixel_wise.items():
            images = pixel_wise.apply(images, values[name], rng.fork(name + " pixels"))
        return images.clamp(0, 1) if self.pixel_wise else images

    def __call__(
        self, images: Tensor, labels: Tensor, rng: CounterRNG, num_classes: int | None
    ) -> tuple[Tensor, Tensor]:
        """Augment a training batch.

        Args:
            images: (B, C, H, W) in [0, 1].
            labels: (B,) int64.
            rng: parameters and noise come from here.
            num_classes: None where the images have no labels.

        Returns:
            Images of the same shape and range, and their labels: (B,), or class shares
            (B, num_classes) after mixing.
        """
        size = (images.shape[2], images.shape[3])
        images = self.apply(images, self.sample(rng, size), rng)
        for name, mixing in self.mixing.items():
            mixing_rng = rng.fork(name)
            partner = to_device(_random_partners(mixing_rng), images.device)
            values = mixing.sample(mixing_rng, size)
            images, share = mixing.mix(images, images[partner], values)
            if num_classes is not None:
                if labels.ndim == 1:
                    labels = F.one_hot(labels, num_classes).to(images.dtype)
                labels = torch.lerp(labels[partner], labels, share.view(-1, 1))
        return images, labels


def _random_partners(rng: CounterRNG) -> Tensor:
    """Return for each image the index of another of its batch, (B,).

    Each image gets a random key, and its partner is the one with the next greater key (for the
    largest, the smallest). So no image is its own partner, unless the batch has only one.
    """
    order = rng.uniform().argsort()
    return torch.empty_like(order).scatter_(0, order, order.roll(-1))
