"""Learning rate schedules, as pure functions of progress; only `Plateau` has a state.

`progress` is the fraction of the run's batches that are done, in [0, 1). The result is the factor
on the base learning rate.
"""

import functools
import math
from typing import Annotated, Any

from src.core.types import Fraction, Interval, NonNegative, NonNegativeInt, Positive, Probability
from src.metrics.directions import Direction, mode_of


def unwrap_partial(schedule: Any) -> Any:
    """Turn Hydra's partial into a plain one, which is much faster to call.

    Hydra's wrapper checks the target's permissions at every call.
    """
    if isinstance(schedule, functools.partial):
        return functools.partial(schedule.func, *schedule.args, **schedule.keywords)
    return schedule


def constant(progress: float) -> float:
    """Return 1 throughout."""
    return 1.0


def linear(progress: float, start: Fraction = 0.0, end: Probability = 0.0) -> float:
    """Return 1 until `start`, then fall linearly towards `end`.

    CycleGAN uses start=0.5.
    """
    return 1.0 if progress <= start else 1.0 + (end - 1.0) * (progress - start) / (1.0 - start)


def cosine(progress: float, warmup: Fraction = 0.0, end: Probability = 0.0) -> float:
    """Rise linearly from 0 during `warmup`, then fall to `end` by cosine decay.

    See Loshchilov 2016; without restarts.
    """
    if progress < warmup:
        return progress / warmup
    return end + (1.0 - end) * 0.5 * (
        1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup))
    )


def one_cycle(
    progress: float, warmup: Fraction = 0.3, start: Fraction = 0.04, end: Probability = 0.0
) -> float:
    """Rise from `start` to 1 during `warmup`, then fall to `end`, each along half a cosine period.

    See Smith 2018; the shape is that of fastai.
    """
    if progress < warmup:
        return start + (1.0 - start) * 0.5 * (1.0 - math.cos(math.pi * progress / warmup))
    return cosine((progress - warmup) / (1.0 - warmup), end=end)


def step(
    progress: float, milestones: tuple[Probability, ...] = (0.5, 0.75), gamma: Positive = 0.1
) -> float:
    """Multiply by `gamma` at every milestone, a fraction of the run."""
    return gamma ** sum(progress >= milestone for milestone in milestones)


class Plateau:
    """Multiply by `factor` when a metric has not improved for more than `patience` validations.

    The caller of `observe` stores `state` in the checkpoint.

    Args:
        monitor: name of the metric, such as `val/loss`; None: the one that the model names (see
            `src.models.base.Family.monitor`).
        mode: whether `min` or `max` is better; None: by the metric's name.
        factor: factor on the learning rate, in (0, 1).
        patience: validations without improvement to wait before multiplying.
        min_delta: smallest change that counts as an improvement.
        min_factor: lower limit of the factor.
    """

    def __init__(
        self,
        monitor: str | None,
        mode: Direction | None = None,
        factor: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
        patience: NonNegativeInt = 3,
        min_delta: NonNegative = 0.0,
        min_factor: Probability = 0.0,
    ) -> None:
        self.monitor, self.factor = monitor, factor
        self.sign = 1 if mode_of(monitor, mode) == "min" else -1
        self.patience, self.min_delta, self.min_factor = patience, min_delta, min_factor
        self.state = {"factor": 1.0, "best": math.inf, "waited": 0}

    def __call__(self, progress: float) -> float:
        return self.state["factor"]

    def observe(self, value: float) -> None:
        """Record the metric of a validation."""
        if self.sign * value < self.state["best"] - self.min_delta:
            self.state |= {"best": self.sign * value, "waited": 0}
        elif self.state["waited"] < self.patience:
            self.state["waited"] += 1
        else:
            self.state |= {
                "factor": max(self.state["factor"] * self.factor, self.min_factor),
                "waited": 0,
            }
