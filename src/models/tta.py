"""Test-time augmentation: average a classifier's logits over several views of each image."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from src.core.types import NonNegativeInt, Positive


@dataclass(frozen=True)
class TTA:
    """Test-time augmentation, as in Jordan 2024.

    Args:
        flip: add the mirror image of each view.
        shift: pixels; add the image moved by that many up and left, and down and right, its border
            filled by reflection. 0: do not move it.
        temperature: logits are divided by it, so that the probabilities fit the accuracy (Guo
            2017). `src.nanonet` chooses it.
    """

    flip: bool = False
    shift: NonNegativeInt = 0
    temperature: Positive = 1.0

    def __bool__(self) -> bool:
        return self.flip or self.shift > 0

    def positions(self, x: Tensor) -> Iterator[tuple[float, Tensor]]:
        """Yield images (B, C, H, W) at each position with its weight; those in place come last.

        The weights sum to 1: 1/4 for each moved position and 1/2 for the original one.
        """
        if not self.shift:
            yield 1.0, x
            return
        height, width = x.shape[2:]
        padded = F.pad(x, (self.shift,) * 4, mode="reflect")
        for i in (0, 2 * self.shift):
            yield 0.25, padded[..., i : i + height, i : i + width]
        yield 0.5, x


def predict_with_tta(net: nn.Module, x: Tensor, tta: TTA) -> tuple[Tensor, Tensor]:
    """Return the logits of the images alone, and their weighted mean over all views.

    With flip and shift these are six views: the image and its mirror image with weight 1/4 each,
    and both moved positions, each with its mirror image, with weight 1/8 each.

    Args:
        net: normalized images (B, C, H, W) -> logits (B, num_classes).
        x: normalized images (B, C, H, W).

    Returns:
        logits (B, num_classes) of x, and the mean, of the same shape, divided by the temperature.
    """
    mean: Any = 0.0
    for weight, view in tta.positions(x):
        logits = net(view)
        mean = mean + weight * ((logits + net(view.flip(3))) / 2 if tta.flip else logits)
    return logits / tta.temperature, mean / tta.temperature
