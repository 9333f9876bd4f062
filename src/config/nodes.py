"""Types of the settings that stand in a node of a command, such as `checkpoint` of src.train."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from src.core.types import AnyLength, Color, NonNegativeInt, PathText, PositiveInt


@dataclass
class Checkpointing:
    """The node `checkpoint` of train."""

    every_n_batches: PositiveInt | None
    monitor: str | None
    mode: Literal["min", "max"] | None
    keep: PositiveInt


@dataclass
class Objective:
    """The node `objective` of train."""

    metric: str | Sequence[str] | None
    mode: Literal["min", "max"] | Sequence[Literal["min", "max"]] | None


@dataclass
class Recommended:
    """The node `recommended` of train: settings that a data set advises."""

    max_epochs: PositiveInt
    log_every_n_steps: PositiveInt
    samples_every_n_batches: PositiveInt


@dataclass
class Benchmark:
    """The node `bench` of bench."""

    loops: AnyLength[str] | None
    batches: PositiveInt
    warmup: PositiveInt
    rounds: PositiveInt
    starts: NonNegativeInt
    profile: bool


@dataclass
class Photos:
    """The node `data` of nanonet."""

    root: PathText | None
    classes: Sequence[str | int] | None
    background: Color


@dataclass
class Found:
    """The node `found` of nanonet."""

    runs: PathText | None
    caches: bool
    max: PositiveInt
