"""Learning rate schedules: pure functions of progress, so that a resumed run needs nothing to go on with.

`progress` is the fraction of the run's batches already seen, in [0, 1); the result is the factor on the base rate.
"""

import math


def constant(progress: float) -> float:
    """1 throughout."""
    return 1.0


def linear(progress: float, start: float = 0.0, end: float = 0.0) -> float:
    """1 until `start`, then straight down to `end` at the last batch; start = 0.5 is CycleGAN's."""
    return 1.0 if progress <= start else 1.0 + (end - 1.0) * (progress - start) / (1.0 - start)


def cosine(progress: float, warmup: float = 0.0, end: float = 0.0) -> float:
    """Up from 0 during `warmup`, then half a cosine down to `end` (Loshchilov 2016, without restarts)."""
    if progress < warmup:
        return progress / warmup
    return end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup)))


def step(progress: float, milestones: tuple[float, ...] = (0.5, 0.75), gamma: float = 0.1) -> float:
    """Multiplied by `gamma` at every milestone passed."""
    return gamma ** sum(progress >= milestone for milestone in milestones)
