"""How sure a share or a mean is."""

import math
import statistics
from collections.abc import Sequence

Z = 1.959963984540054  # of 95%, two-sided


def wilson(successes: int, n: int, z: float = Z) -> tuple[float, float]:
    """The 95% interval of a share, `successes` of `n`, n at least 1 (Wilson 1927, eq. 4); unlike Wald's it stays in [0, 1]."""
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(values: Sequence[float], share: float = 0.95) -> tuple[float, float]:
    """The interval of the mean of n independent values, n at least 2, by Student's t with n - 1 degrees of freedom."""
    from scipy.stats import t

    half = (
        float(t.ppf((1 + share) / 2, len(values) - 1))
        * statistics.stdev(values)
        / math.sqrt(len(values))
    )
    return statistics.mean(values) - half, statistics.mean(values) + half
