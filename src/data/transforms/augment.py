"""Training images made other than they are: on whole batches, on the device that holds them, each image by draws of its own.

Geometric transforms are composed into one map an image, which `warp` samples once; then come those of pixels, then those that
mix images. A transform draws first, (B,) numbers by name on the CPU (a hundred small steps, slow to ask of an accelerator), and
is a function of those: they can be written down.
"""

import math
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from src.core.randomness import Draws
from src.data.transforms.warp import warp

Values = dict[str, Tensor]
Size = tuple[int, int]


@runtime_checkable
class Geometric(Protocol):
    """A transform of places."""

    def drawn(self, draws: Draws, size: Size) -> Values:
        """Its parameters for images of `size`, height and width."""

    def map(self, values: Values, size: Size) -> Tensor:
        """(B, 3, 3): the place (x, y, 1) in the source, in pixels about the middle, y downwards, of a place in the result."""


@runtime_checkable
class PixelWise(Protocol):
    """A transform of values, each where it stands."""

    def drawn(self, draws: Draws, size: Size) -> Values: ...

    def changed(self, images: Tensor, values: Values, draws: Draws) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> the same shape, any range."""


@runtime_checkable
class Mixing(Protocol):
    """A transform that puts something of another image of the batch into each."""

    def drawn(self, draws: Draws, size: Size) -> Values: ...

    def mixed(self, images: Tensor, others: Tensor, values: Values) -> tuple[Tensor, Tensor]:
        """Images and their partners, (B, C, H, W) -> the mixture, and the share (B,) of the first that is left in it."""


class Augment:
    """A row of transforms.

    Args:
        transforms: by name; each draws by its name, so that what another draws does not move it.
        border, interpolation, fill: of the geometric ones, see `warp`.
    """

    def __init__(self, transforms: Mapping[str, object], border: str = "constant", interpolation: str = "bilinear",
                 fill: float = 0.0) -> None:  # fmt: skip
        self.geometric = {name: t for name, t in transforms.items() if isinstance(t, Geometric)}
        self.pixel_wise = {name: t for name, t in transforms.items() if isinstance(t, PixelWise)}
        self.mixing = {name: t for name, t in transforms.items() if isinstance(t, Mixing)}
        self.border, self.interpolation, self.fill = border, interpolation, fill

    def drawn(self, draws: Draws, size: Size) -> dict[str, Values]:
        """What each transform of single images is to do to images of `size`."""
        return {
            name: t.drawn(draws.of(name), size)
            for name, t in (self.geometric | self.pixel_wise).items()
        }

    def single(self, images: Tensor, values: Mapping[str, Values], draws: Draws) -> Tensor:
        """Images (B, C, H, W) in [0, 1], each for itself, by `values` as `drawn` returns them -> the same shape and range."""
        if self.geometric:
            size = (images.shape[2], images.shape[3])
            total = torch.eye(3, dtype=torch.float64)
            for (
                name,
                geometric,
            ) in (
                self.geometric.items()
            ):  # the first is done first: the last asks the others where from
                total = total @ geometric.map(values[name], size)
            images = warp(images, total[:, :2], self.border, self.interpolation, self.fill)
        for name, pixel_wise in self.pixel_wise.items():
            images = pixel_wise.changed(images, values[name], draws.of(name + " pixels"))
        return images.clamp(0, 1) if self.pixel_wise else images

    def __call__(
        self, images: Tensor, labels: Tensor, draws: Draws, num_classes: int | None
    ) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) in [0, 1] and labels (B,) -> images, and labels, (B, num_classes) shares where mixed."""
        size = (images.shape[2], images.shape[3])
        images = self.single(images, self.drawn(draws, size), draws)
        for name, mixing in self.mixing.items():
            own = draws.of(name)
            partner = _next(own.uniform()).to(images.device)
            images, share = mixing.mixed(images, images[partner], mixing.drawn(own, size))
            if num_classes is not None:
                if labels.ndim == 1:
                    labels = F.one_hot(labels, num_classes).to(images.dtype)
                labels = torch.lerp(labels[partner], labels, share.view(-1, 1))
        return images, labels


def _next(keys: Tensor) -> Tensor:
    """For each of (B,) keys the place of the next greater one, for the greatest that of the least: a partner, never oneself."""
    order = keys.argsort()
    return torch.empty_like(order).scatter_(0, order, order.roll(-1))


class Flip:
    """Left to right with probability p, or upside down where `vertical`."""

    def __init__(self, p: float, vertical: bool = False) -> None:
        self.p, self.vertical = p, vertical

    def drawn(self, draws: Draws, size: Size) -> Values:
        return {"flipped": (draws.uniform() < self.p).double()}

    def map(self, values: Values, size: Size) -> Tensor:
        sign, one = 1 - 2 * values["flipped"], torch.ones_like(values["flipped"])
        return _diagonal(one, sign) if self.vertical else _diagonal(sign, one)


class Rotation:
    """About the middle, counter-clockwise, by -degrees to degrees."""

    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def drawn(self, draws: Draws, size: Size) -> Values:
        return {"degrees": _between(draws, -self.degrees, self.degrees)}

    def map(self, values: Values, size: Size) -> Tensor:
        angle = values["degrees"] * (math.pi / 180)
        maps = _diagonal(angle.cos(), angle.cos())
        maps[:, 0, 1], maps[:, 1, 0] = -angle.sin(), angle.sin()
        return maps


class Scale:
    """About the middle, by `min_scale` to `max_scale`, above 1 larger, evenly in the logarithm."""

    def __init__(self, min_scale: float, max_scale: float) -> None:
        if min_scale > max_scale:
            raise ValueError(f"min_scale={min_scale} is more than max_scale={max_scale}")
        self.min_scale, self.max_scale = min_scale, max_scale

    def drawn(self, draws: Draws, size: Size) -> Values:
        return {"scale": _between(draws, math.log(self.min_scale), math.log(self.max_scale)).exp()}

    def map(self, values: Values, size: Size) -> Tensor:
        return _diagonal(1 / values["scale"], 1 / values["scale"])


class Translation:
    """To the right and down by -max_shift to max_shift, in pixels, or below 1 a share of the image's sides;
    `whole_pixels`: by whole pixels."""

    def __init__(self, max_shift: float, whole_pixels: bool = False) -> None:
        self.max_shift, self.whole_pixels = max_shift, whole_pixels

    def drawn(self, draws: Draws, size: Size) -> Values:
        height, width = size if self.max_shift < 1 else (1, 1)
        reach = {"x": self.max_shift * width, "y": self.max_shift * height}
        if not self.whole_pixels:
            return {name: _between(draws, -limit, limit) for name, limit in reach.items()}
        return {
            name: (_between(draws, 0, 2 * int(limit) + 1)).floor() - int(limit)
            for name, limit in reach.items()
        }

    def map(self, values: Values, size: Size) -> Tensor:
        maps = _diagonal(torch.ones_like(values["x"]), torch.ones_like(values["y"]))
        maps[:, 0, 2], maps[:, 1, 2] = -values["x"], -values["y"]
        return maps


class Crop:
    """A part of the image, filling it: Inception's crop (Szegedy 2015, section 6), drawn as torchvision's RandomResizedCrop.

    Area and aspect are drawn together up to ten times, until the part lies inside the image; after ten it is the whole image.

    Args:
        min_area: the part's share of the image, uniform in `min_area` to 1.
        max_aspect: its sides' ratio is the image's times 1 / max_aspect to max_aspect, uniform in the logarithm.
    """

    tries = 10  # torchvision's

    def __init__(self, min_area: float, max_aspect: float) -> None:
        self.min_area, self.max_aspect = min_area, max_aspect

    def drawn(self, draws: Draws, size: Size) -> Values:
        """Return left, top, width and height (B,) of each part, as shares of the image's sides."""
        shares, place = draws.uniform(self.tries, 2).double(), draws.uniform(2).double()
        area = self.min_area + (1 - self.min_area) * shares[..., 0]  # (B, tries)
        stretch = ((2 * shares[..., 1] - 1) * (math.log(self.max_aspect) / 2)).exp()
        sides = area.sqrt().unsqueeze(2) * torch.stack([stretch, 1 / stretch], 2)  # (B, tries, 2)
        fits = (sides <= 1).all(2)
        first = sides[torch.arange(len(fits)), fits.int().argmax(1)]
        width, height = torch.where(fits.any(1, keepdim=True), first, 1.0).unbind(1)
        left, top = place[:, 0] * (1 - width), place[:, 1] * (1 - height)
        return {"left": left, "top": top, "width": width, "height": height}

    def map(self, values: Values, size: Size) -> Tensor:
        maps = _diagonal(values["width"], values["height"])
        maps[:, 0, 2] = (values["left"] + values["width"] / 2 - 0.5) * size[1]
        maps[:, 1, 2] = (values["top"] + values["height"] / 2 - 0.5) * size[0]
        return maps


class GaussianNoise:
    """Added to each value, of a standard deviation from 0 to `max_std`."""

    def __init__(self, max_std: float) -> None:
        self.max_std = max_std

    def drawn(self, draws: Draws, size: Size) -> Values:
        return {"std": _between(draws, 0, self.max_std)}

    def changed(self, images: Tensor, values: Values, draws: Draws) -> Tensor:
        return torch.addcmul(
            images, draws.to(images.device).normal(*images.shape[1:]), wide(values["std"], images)
        )


class SaltAndPepper:
    """A share from 0 to `max_fraction` of an image's pixels made white or black, either half the time."""

    def __init__(self, max_fraction: float) -> None:
        self.max_fraction = max_fraction

    def drawn(self, draws: Draws, size: Size) -> Values:
        return {"share": _between(draws, 0, self.max_fraction)}

    def changed(self, images: Tensor, values: Values, draws: Draws) -> Tensor:
        noise, half = (
            draws.to(images.device).uniform(1, *images.shape[2:]),
            wide(values["share"] / 2, images),
        )
        return images.masked_fill(noise < half, 0).masked_fill(noise >= 1 - half, 1)


class Brightness:
    """Each image's values times a factor from 1 - max_change to 1 + max_change."""

    def __init__(self, max_change: float) -> None:
        self.max_change = max_change

    def drawn(self, draws: Draws, size: Size) -> Values:
        return {"factor": _between(draws, 1 - self.max_change, 1 + self.max_change)}

    def changed(self, images: Tensor, values: Values, draws: Draws) -> Tensor:
        return (images * wide(values["factor"], images)).clamp(0, 1)


class Contrast(Brightness):
    """Each image's values moved from its mean luma, by a factor from 1 - max_change to 1 + max_change."""

    def changed(self, images: Tensor, values: Values, draws: Draws) -> Tensor:
        weights = images.new_tensor(
            [0.299, 0.587, 0.114] if images.shape[1] == 3 else [1.0]
        )  # ITU-R 601
        middle = torch.einsum("bchw,c->b", images, weights) / (images.shape[2] * images.shape[3])
        return torch.lerp(middle.view(-1, 1, 1, 1), images, wide(values["factor"], images)).clamp(
            0, 1
        )


class Cutout:
    """A box about any place, cut off at the edge, in the image's mean colour (DeVries 2017); `box_fraction`: a share of
    its sides."""

    def __init__(self, box_fraction: float) -> None:
        self.box_fraction = box_fraction

    def drawn(self, draws: Draws, size: Size) -> Values:
        return {"x": draws.uniform(), "y": draws.uniform()}

    def changed(self, images: Tensor, values: Values, draws: Draws) -> Tensor:
        inside = in_box(values, torch.full_like(values["x"], self.box_fraction / 2), images)
        return torch.where(inside, images.mean((2, 3), keepdim=True), images)


def in_box(values: Values, half: Tensor, images: Tensor) -> Tensor:
    """(B, 1, H, W): is a pixel nearer to (x, y) than `half` (B,), all shares of the sides."""
    inside = []
    for side, middle in zip(images.shape[2:], (values["y"], values["x"]), strict=True):
        place = (torch.arange(side) + 0.5) / side
        inside.append((place - middle.view(-1, 1)).abs() < half.view(-1, 1))
    return (inside[0].unsqueeze(2) & inside[1].unsqueeze(1)).unsqueeze(1).to(images.device)


def _between(draws: Draws, low: float, high: float) -> Tensor:
    """(B,) float64, evenly between the two."""
    return draws.uniform().double() * (high - low) + low


def _diagonal(x: Tensor, y: Tensor) -> Tensor:
    """(B,) and (B,) -> maps (B, 3, 3) that scale."""
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], 1).double())


def wide(values: Tensor, images: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1), of the images' kind and where they are."""
    return values.to(images.device, images.dtype).view(-1, 1, 1, 1)
