"""Confidence intervals of a share and of a mean."""

import math
import statistics
from collections.abc import Sequence

Z = 1.959963984540054  # quantile for two-sided 95%


def wilson(successes: float, n: int, z: float = Z) -> tuple[float, float]:
    """Return the 95% interval of the share `successes` / `n` (Wilson 1927).

    Unlike Wald's interval it stays in [0, 1].

    Args:
        successes: from 0 to n; a mean over several trials need not be whole.
        n: at least 1.
        z: quantile of the standard normal distribution.
    """
    share = successes / n
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, center - half), min(1.0, center + half)


def mean_interval(values: Sequence[float], share: float = 0.95) -> tuple[float, float]:
    """Return the interval of the mean, by Student's t with n - 1 degrees of freedom.

    Args:
        values: n independent values, n at least 2.
        share: confidence level.
    """
    from scipy.stats import t

    half = (
        float(t.ppf((1 + share) / 2, len(values) - 1))
        * statistics.stdev(values)
        / math.sqrt(len(values))
    )
    return statistics.mean(values) - half, statistics.mean(values) + half


def newcombe(successes: Sequence[float], n: Sequence[int]) -> tuple[float, float]:
    """Return the 95% interval of the difference of two independent shares, the first minus the
    second (Newcombe 1998, method 10: from Wilson's interval of each).

    Args:
        successes: two counts, from 0 to `n`.
        n: two numbers of trials, at least 1.
    """
    first, second = (count / trials for count, trials in zip(successes, n, strict=True))
    (low_1, high_1), (low_2, high_2) = map(wilson, successes, n)
    difference = first - second
    return (
        difference - math.hypot(first - low_1, high_2 - second),
        difference + math.hypot(high_1 - first, second - low_2),
    )


def welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Return the 95% interval of the difference of two means, the first minus the second.

    By Welch's t (1947), for samples whose variances may differ.

    Args:
        first: independent values, at least 2.
        second: independent values, at least 2.
    """
    from scipy.stats import t

    errors = [statistics.variance(values) / len(values) for values in (first, second)]
    difference, error = statistics.mean(first) - statistics.mean(second), sum(errors)
    if error == 0:
        return difference, difference
    freedom = error**2 / (errors[0] ** 2 / (len(first) - 1) + errors[1] ** 2 / (len(second) - 1))
    half = float(t.ppf(0.975, freedom)) * math.sqrt(error)
    return difference - half, difference + half
