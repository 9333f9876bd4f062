"""How sure a share is."""

import math

Z = 1.959963984540054  # of 95%, two-sided


def wilson(successes: int, n: int, z: float = Z) -> tuple[float, float]:
    """The 95% interval of a share, `successes` of `n`, n at least 1 (Wilson 1927, eq. 4); unlike Wald's it stays in [0, 1]."""
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
