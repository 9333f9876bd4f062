"""Geometric augmentations: flips, rotations, scalings, translations and crops."""

import math
from typing import Annotated

import torch
from torch import Tensor

from src.core.randomness import CounterRNG
from src.core.types import Interval, Positive, Probability
from src.data.transforms.base import Geometric, Size, Values, scaling, uniform


class Flip(Geometric):
    """Mirror an image with probability `p`.

    Args:
        p: probability of a flip.
        vertical: flip upside down; False: left to right.
        alternate: flip the image in every second epoch; `p` is the probability that it is flipped
            in the first one. So two epochs show both versions of each image (Jordan 2024).
    """

    def __init__(self, p: Probability, vertical: bool = False, alternate: bool = False) -> None:
        self.p, self.vertical, self.alternate = p, vertical, alternate

    def sample(self, rng: CounterRNG, size: Size) -> Values:
        if not self.alternate:
            return {"flipped": (rng.uniform() < self.p).double()}
        at_first = rng.at_epoch(0).uniform() < self.p
        is_odd = (rng.epoch or 0) % 2 == 1
        return {"flipped": (at_first ^ is_odd).double()}

    def matrix(self, values: Values, size: Size) -> Tensor:
        sign, one = 1 - 2 * values["flipped"], torch.ones_like(values["flipped"])
        return scaling(one, sign) if self.vertical else scaling(sign, one)


class Rotation(Geometric):
    """Rotate about the center, by a uniform angle.

    Args:
        degrees: largest angle, in either direction; positive angles are counter-clockwise.
    """

    def __init__(self, degrees: Annotated[float, Interval(ge=0, le=180)]) -> None:
        self.degrees = degrees

    def sample(self, rng: CounterRNG, size: Size) -> Values:
        return {"degrees": uniform(rng, -self.degrees, self.degrees)}

    def matrix(self, values: Values, size: Size) -> Tensor:
        angle = values["degrees"] * (math.pi / 180)
        maps = scaling(angle.cos(), angle.cos())
        maps[:, 0, 1], maps[:, 1, 0] = -angle.sin(), angle.sin()
        return maps


class Scale(Geometric):
    """Scale about the center, by a factor that is uniform in its logarithm.

    Args:
        min_scale, max_scale: limits of the factor; above 1 enlarges.

    Raises:
        ValueError: `min_scale` is more than `max_scale`.
    """

    def __init__(self, min_scale: Positive, max_scale: Positive) -> None:
        if min_scale > max_scale:
            raise ValueError(f"min_scale={min_scale} is more than max_scale={max_scale}")
        self.min_scale, self.max_scale = min_scale, max_scale

    def sample(self, rng: CounterRNG, size: Size) -> Values:
        return {"scale": uniform(rng, math.log(self.min_scale), math.log(self.max_scale)).exp()}

    def matrix(self, values: Values, size: Size) -> Tensor:
        return scaling(1 / values["scale"], 1 / values["scale"])


class Translation(Geometric):
    """Move an image by a uniform shift in x and y.

    Args:
        max_shift: largest shift in each direction: in pixels, or below 1 a fraction of each side.
        whole_pixels: shift by whole pixels only, which needs no interpolation. The largest shift is
            then at least one pixel.
    """

    def __init__(self, max_shift: Positive, whole_pixels: bool = False) -> None:
        self.max_shift, self.whole_pixels = max_shift, whole_pixels

    def sample(self, rng: CounterRNG, size: Size) -> Values:
        height, width = size if self.max_shift < 1 else (1, 1)
        limits = {"x": self.max_shift * width, "y": self.max_shift * height}
        if not self.whole_pixels:
            return {name: uniform(rng, -limit, limit) for name, limit in limits.items()}
        most = {name: max(1, int(limit)) for name, limit in limits.items()}
        return {name: uniform(rng, 0, 2 * n + 1).floor() - n for name, n in most.items()}

    def matrix(self, values: Values, size: Size) -> Tensor:
        maps = scaling(torch.ones_like(values["x"]), torch.ones_like(values["y"]))
        maps[:, 0, 2], maps[:, 1, 2] = -values["x"], -values["y"]
        return maps


class Crop(Geometric):
    """Cut out a random part and enlarge it to the whole image (Szegedy 2015, section 6).

    The distribution is that of torchvision's RandomResizedCrop: area and aspect ratio are drawn
    together, up to ten times, until the part fits; after that the part is the whole image.

    Args:
        min_area: smallest area of the part, as a fraction of the image; uniform from there to 1.
        max_aspect: the aspect ratio is that of the image times a factor from 1 / max_aspect to
            max_aspect, uniform in its logarithm.
    """

    attempts = 10  # as in torchvision

    def __init__(self, min_area: Probability, max_aspect: Annotated[float, Interval(ge=1)]) -> None:
        self.min_area, self.max_aspect = min_area, max_aspect

    def sample(self, rng: CounterRNG, size: Size) -> Values:
        """Return left, top, width and height (B,) of each part, as fractions of the image sides."""
        draws, position = rng.uniform(self.attempts, 2).double(), rng.uniform(2).double()
        area = self.min_area + (1 - self.min_area) * draws[..., 0]  # (B, attempts)
        stretch = ((2 * draws[..., 1] - 1) * (math.log(self.max_aspect) / 2)).exp()
        sides = area.sqrt().unsqueeze(2) * torch.stack([stretch, 1 / stretch], 2)
        fits = (sides <= 1).all(2)  # (B, attempts)
        first_fit = sides[torch.arange(len(fits)), fits.int().argmax(1)]
        width, height = torch.where(fits.any(1, keepdim=True), first_fit, 1.0).unbind(1)
        left, top = position[:, 0] * (1 - width), position[:, 1] * (1 - height)
        return {"left": left, "top": top, "width": width, "height": height}

    def matrix(self, values: Values, size: Size) -> Tensor:
        maps = scaling(values["width"], values["height"])
        maps[:, 0, 2] = (values["left"] + values["width"] / 2 - 0.5) * size[1]
        maps[:, 1, 2] = (values["top"] + values["height"] / 2 - 0.5) * size[0]
        return maps
