"""Learning curves: accuracy by the number of training images, and its extrapolation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 200  # bootstrap samples behind an interval

# Assumed exponent and its standard deviation if one size was measured. Published: 0.31 and 0.49 for
# ImageNet's top-1 and top-5 error (Hestness 2017); heads on frozen features fall as fast or faster.
EXPONENT, SPREAD = 0.5, 0.2


class PowerLaw(NamedTuple):
    """The error rate a * n^-b for n images of each class (Cortes 1993; Hestness 2017)."""

    a: float
    b: float

    def error(self, n: float) -> float:
        """Return the error rate, at most 1."""
        return min(1.0, self.a * n**-self.b)


def fit_power_law(sizes: Sequence[float], errors: Sequence[float], n: int) -> PowerLaw:
    """Fit a power law to error rates by least squares of their logarithms.

    An error rate is estimated on `n` images, so log(error) has the variance (1 - e) / (n e); each
    point gets its inverse as weight. A rate of 0 counts as half an image.

    Args:
        sizes: images of each class that the classifier learned from, at least two different ones.
        errors: error rate at each size.
        n: images that the rates were measured on.
    """
    rates = np.clip(np.asarray(errors, float), 0.5 / n, 1 - 0.5 / n)
    weights = n * rates / (1 - rates)
    x, y = np.log(np.asarray(sizes, float)), np.log(rates)
    x_mean, y_mean = np.average(x, weights=weights), np.average(y, weights=weights)
    slope = np.sum(weights * (x - x_mean) * (y - y_mean)) / np.sum(weights * (x - x_mean) ** 2)
    slope = min(float(slope), 0.0)  # more images do not harm
    return PowerLaw(float(np.exp(y_mean - slope * x_mean)), -slope)


class Forecast(NamedTuple):
    """The accuracy expected at a number of images of each class, with a 95% interval."""

    per_class: int
    accuracy: float
    low: float
    high: float


def forecast(
    sizes: Sequence[int], correct: np.ndarray, wanted: Sequence[int], seed: int
) -> list[Forecast]:
    """Extrapolate a learning curve.

    More images do not harm: no forecast is below the accuracy at the largest size. One size gives
    no slope: then the exponent is assumed to be `EXPONENT`, and the interval covers other exponents
    too. Returns an empty list if there are no sizes, or if there are no errors at the largest size:
    these images cannot show any further gain.

    Args:
        sizes: S numbers of images of each class.
        correct: (S, N), how often image n was predicted right at each size, as a share in [0, 1].
        wanted: sizes to forecast.
        seed: of the bootstrap over the N images, which gives the intervals.
    """
    if not sizes or (correct[-1] == 1).all():
        return []
    n = correct.shape[1]
    rng = np.random.default_rng(seed)

    def accuracies(columns: np.ndarray, exponent: float) -> list[float]:
        errors = 1 - correct[:, columns].mean(1)
        if len(sizes) > 1:
            law = fit_power_law(sizes, errors, n)
        else:
            law = PowerLaw(float(errors[0]) * sizes[0] ** exponent, exponent)
        return [1 - min(law.error(size), float(errors[-1])) for size in wanted]

    values = accuracies(np.arange(n), EXPONENT)
    resampled = rng.integers(0, n, (DRAWS, n))
    exponents = rng.normal(EXPONENT, SPREAD, DRAWS).clip(min=0)
    draws = np.array([accuracies(*one) for one in zip(resampled, exponents, strict=True)])
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return [
        Forecast(size, value, float(least), float(most))
        for size, value, least, most in zip(wanted, values, low, high, strict=True)
    ]
