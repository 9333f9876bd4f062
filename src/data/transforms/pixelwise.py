"""Augmentations of pixel values: noise, brightness, contrast and cutout."""

import torch
from torch import Tensor

from src.core.randomness import CounterRNG
from src.core.transfer import to_device
from src.core.types import Positive, Probability, Share
from src.data.transforms.base import PixelWise, Size, Values, inside_box, per_image, uniform
from src.data.transforms.pixels import LUMA


class GaussianNoise(PixelWise):
    """Add Gaussian noise to each value.

    Args:
        max_std: the noise of an image has a standard deviation from 0 to `max_std`, uniform.
    """

    def __init__(self, max_std: Positive) -> None:
        self.max_std = max_std

    def sample(self, rng: CounterRNG, size: Size) -> Values:
        return {"std": uniform(rng, 0, self.max_std)}

    def apply(self, images: Tensor, values: Values, rng: CounterRNG) -> Tensor:
        noise = rng.to(images.device).normal(*images.shape[1:])
        return torch.addcmul(images, noise, per_image(values["std"], images))


class SaltAndPepper(PixelWise):
    """Set random pixels to white or black, with equal probability.

    Args:
        max_fraction: the changed fraction of an image's pixels is from 0 to this, uniform.
    """

    def __init__(self, max_fraction: Share) -> None:
        self.max_fraction = max_fraction

    def sample(self, rng: CounterRNG, size: Size) -> Values:
        return {"share": uniform(rng, 0, self.max_fraction)}

    def apply(self, images: Tensor, values: Values, rng: CounterRNG) -> Tensor:
        draws = rng.to(images.device).uniform(1, *images.shape[2:])
        half = per_image(values["share"] / 2, images)
        return images.masked_fill(draws < half, 0).masked_fill(draws >= 1 - half, 1)


class Brightness(PixelWise):
    """Multiply an image by a random factor, and clip to [0, 1].

    Args:
        max_change: the factor is from 1 - max_change to 1 + max_change, uniform.
    """

    def __init__(self, max_change: Positive) -> None:
        self.max_change = max_change

    def sample(self, rng: CounterRNG, size: Size) -> Values:
        return {"factor": uniform(rng, 1 - self.max_change, 1 + self.max_change)}

    def apply(self, images: Tensor, values: Values, rng: CounterRNG) -> Tensor:
        return (images * per_image(values["factor"], images)).clamp(0, 1)


class Contrast(Brightness):
    """Scale each value's distance from the image's mean luma, and clip to [0, 1].

    Args:
        max_change: the factor is from 1 - max_change to 1 + max_change, uniform.
    """

    def apply(self, images: Tensor, values: Values, rng: CounterRNG) -> Tensor:
        weights = to_device(torch.tensor(LUMA if images.shape[1] == 3 else [1.0]), images.device)
        mean = torch.einsum("bchw,c->b", images, weights) / (images.shape[2] * images.shape[3])
        factor = per_image(values["factor"], images)
        return torch.lerp(mean.view(-1, 1, 1, 1), images, factor).clamp(0, 1)


class Cutout(PixelWise):
    """Fill a box at a random place with the image's mean color (DeVries 2017).

    The box center is uniform over the image, so the box may reach over the edge.

    Args:
        box_fraction: side of the box, as a fraction of each image side.
    """

    def __init__(self, box_fraction: Probability) -> None:
        self.box_fraction = box_fraction

    def sample(self, rng: CounterRNG, size: Size) -> Values:
        return {"x": rng.uniform(), "y": rng.uniform()}

    def apply(self, images: Tensor, values: Values, rng: CounterRNG) -> Tensor:
        inside = inside_box(values, torch.full_like(values["x"], self.box_fraction / 2), images)
        return torch.where(inside, images.mean((2, 3), keepdim=True), images)
