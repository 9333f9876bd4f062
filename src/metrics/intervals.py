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
