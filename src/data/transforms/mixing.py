"""Augmentations that mix each training image, and its label, with another of its batch."""

import numpy as np
import torch
from torch import Tensor

from src.core.randomness import CounterRNG
from src.core.types import Positive
from src.data.transforms.base import Mixing, Size, Values, inside_box, per_image


class MixUp(Mixing):
    """Blend two images: lambda x1 + (1 - lambda) x2, and their labels (Zhang 2018, section 2).

    Args:
        alpha: lambda is drawn from Beta(alpha, alpha).
    """

    def __init__(self, alpha: Positive) -> None:
        from scipy.special import betaincinv  # slow to import

        probabilities = np.linspace(0, 1, 4097)
        self.quantiles = torch.from_numpy(betaincinv(alpha, alpha, probabilities))

    def sample(self, rng: CounterRNG, size: Size) -> Values:
        # inverse transform sampling, linear between the tabulated quantiles
        position = rng.uniform().double() * (len(self.quantiles) - 1)
        low = position.long()
        return {"share": torch.lerp(self.quantiles[low], self.quantiles[low + 1], position - low)}

    def mix(self, images: Tensor, others: Tensor, values: Values) -> tuple[Tensor, Tensor]:
        share = per_image(values["share"], images)
        return torch.lerp(others, images, share), share


class CutMix(MixUp):
    """Paste a box of another image; labels are mixed by the visible areas (Yun 2019, section 3.1).

    The box has the area 1 - lambda and a uniform center, and is clipped at the image's edge.

    Args:
        alpha: lambda is drawn from Beta(alpha, alpha).
    """

    def sample(self, rng: CounterRNG, size: Size) -> Values:
        return super().sample(rng, size) | {"x": rng.uniform(), "y": rng.uniform()}

    def mix(self, images: Tensor, others: Tensor, values: Values) -> tuple[Tensor, Tensor]:
        inside = inside_box(values, (1 - values["share"]).sqrt() / 2, images)
        return torch.where(inside, others, images), 1 - inside.float().mean((1, 2, 3))
