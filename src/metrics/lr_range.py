"""Read a learning rate from the losses of a range test (Smith 2015, section 3.3)."""

import math
from collections.abc import Sequence

WINDOW = 1 / 50  # standard deviation of the smoothing, as a share of the curve


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return N losses averaged with their neighbors, with the weights of a Gaussian.

    Unlike a running mean this does not lag behind.
    """
    width = max(1.0, WINDOW * len(losses))
    reach = math.ceil(3 * width)
    weights = [math.exp(-0.5 * (k / width) ** 2) for k in range(-reach, reach + 1)]
    values = []
    for i in range(len(losses)):
        low, high = max(0, i - reach), min(len(losses), i + reach + 1)
        near = weights[low - i + reach : high - i + reach]
        total = sum(w * x for w, x in zip(near, losses[low:high], strict=True))
        values.append(total / sum(near))
    return values


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the learning rate at which the loss falls fastest, per decade of the rate.

    Args:
        rates: N learning rates, ascending.
        losses: N smoothed losses, 0 or more.

    Returns:
        The rate, before the lowest loss; None if the loss does not fall, or only at the first step.
    """
    lowest = min(range(len(losses)), key=losses.__getitem__, default=0)
    slopes = [
        (losses[i + 1] - losses[i - 1]) / math.log(rates[i + 1] / rates[i - 1])
        for i in range(1, lowest)
    ]
    if not slopes or min(slopes) >= 0:
        return None
    return rates[1 + slopes.index(min(slopes))]
