"""Learning rate schedules: pure functions of progress, so that a resumed run needs nothing to go on with; all but `Plateau`.

`progress` is the fraction of the run's batches already seen, in [0, 1); the result is the factor on the base rate.
"""

import functools
import math
from typing import Any, Literal

from src.core.types import Fraction, NonNegative, NonNegativeInt, Positive, Probability


def unwrap_partial(schedule: Any) -> Any:
    """A partial as Python has it: Hydra's own looks its permissions up at every call, which takes longer than a small step."""
    if isinstance(schedule, functools.partial):
        return functools.partial(schedule.func, *schedule.args, **schedule.keywords)
    return schedule


def constant(progress: float) -> float:
    """1 throughout."""
    return 1.0


def linear(progress: float, start: Fraction = 0.0, end: Probability = 0.0) -> float:
    """1 until `start`, then straight down to `end` at the last batch; start = 0.5 is CycleGAN's."""
    return 1.0 if progress <= start else 1.0 + (end - 1.0) * (progress - start) / (1.0 - start)


def cosine(progress: float, warmup: Fraction = 0.0, end: Probability = 0.0) -> float:
    """Up from 0 during `warmup`, then half a cosine down to `end` (Loshchilov 2016, without restarts)."""
    if progress < warmup:
        return progress / warmup
    return end + (1.0 - end) * 0.5 * (
        1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup))
    )


def one_cycle(
    progress: float, warmup: Fraction = 0.3, start: Fraction = 0.04, end: Probability = 0.0
) -> float:
    """From `start` up to 1 during `warmup`, then down to `end`, each half a cosine (Smith 2018, fastai's shape)."""
    if progress < warmup:
        return start + (1.0 - start) * 0.5 * (1.0 - math.cos(math.pi * progress / warmup))
    return cosine((progress - warmup) / (1.0 - warmup), end=end)


def step(
    progress: float, milestones: tuple[Probability, ...] = (0.5, 0.75), gamma: Positive = 0.1
) -> float:
    """Multiplied by `gamma` at every milestone passed."""
    return gamma ** sum(progress >= milestone for milestone in milestones)


class Plateau:
    """Multiplied by `gamma` when a measure has not got better for more than `patience` validations.

    Its state is kept in the checkpoint by whoever lets it observe.

    Args:
        monitor: the measure's name, `val/loss` say.
        mode: is `min` or `max` better?
        gamma: the factor, in (0, 1).
        patience: validations in a row without a better value that are borne.
        min_delta: what is better by no more than this is not.
        min_factor: lower limit of the factor.
    """

    def __init__(
        self,
        monitor: str,
        mode: Literal["min", "max"] = "min",
        gamma: Positive = 0.1,
        patience: NonNegativeInt = 3,
        min_delta: NonNegative = 0.0,
        min_factor: Probability = 0.0,
    ) -> None:
        self.monitor, self.sign, self.gamma = monitor, 1 if mode == "min" else -1, gamma
        self.patience, self.min_delta, self.min_factor = patience, min_delta, min_factor
        self.state = {"factor": 1.0, "best": math.inf, "waited": 0}

    def __call__(self, progress: float) -> float:
        return self.state["factor"]

    def observe(self, value: float) -> None:
        """Take note of a validation's measure."""
        if self.sign * value < self.state["best"] - self.min_delta:
            self.state |= {"best": self.sign * value, "waited": 0}
        elif self.state["waited"] < self.patience:
            self.state["waited"] += 1
        else:
            self.state |= {
                "factor": max(self.state["factor"] * self.gamma, self.min_factor),
                "waited": 0,
            }
