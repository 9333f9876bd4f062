"""Training images mixed with others of their batch, and their labels alike."""

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from src.core.randomness import CounterRNG
from src.data.transforms.augment import Size, Values, in_box, wide


class MixUp:
    """lambda of an image and 1 - lambda of another, labels alike, lambda of Beta(alpha, alpha) (Zhang 2018, section 2)."""

    def __init__(self, alpha: float) -> None:
        places = np.linspace(0, 1, 4097)
        self.quantiles = torch.from_numpy(betaincinv(alpha, alpha, places))

    def sample(self, draws: CounterRNG, size: Size) -> Values:
        place = draws.uniform().double() * (len(self.quantiles) - 1)
        low = place.long()
        return {"share": torch.lerp(self.quantiles[low], self.quantiles[low + 1], place - low)}

    def mix(self, images: Tensor, others: Tensor, values: Values) -> tuple[Tensor, Tensor]:
        share = wide(values["share"], images)
        return torch.lerp(others, images, share), share


class CutMix(MixUp):
    """A box of another image, its share of the area 1 - lambda, about any place and cut off at the edge (Yun 2019, 3.1)."""

    def sample(self, draws: CounterRNG, size: Size) -> Values:
        return super().sample(draws, size) | {"x": draws.uniform(), "y": draws.uniform()}

    def mix(self, images: Tensor, others: Tensor, values: Values) -> tuple[Tensor, Tensor]:
        inside = in_box(values, (1 - values["share"]).sqrt() / 2, images)
        return torch.where(inside, others, images), 1 - inside.float().mean((1, 2, 3))
