"""Groups of runs that differ only in their seed, with the mean and interval of each metric."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from src.core.counts import count
from src.core.run_record import FINISHED
from src.metrics.intervals import mean_interval
from src.runs.info import RunInfo

# settings that change no result: watching a run changes nothing
DESCRIPTIVE = ("out", "resume", "name", "tags", "note", "trainer.log_every_n_steps")
WATCHING = ("recommended", "logger", "checkpoint", "objective")


class Estimate(NamedTuple):
    """The value of a metric for n runs.

    Attributes:
        mean: the mean over the runs.
        half: half its 95% interval; None for one run.
        n: number of runs.
        bounds: the 95% interval of one run's share of examples; None if it has none.
    """

    mean: float
    half: float | None
    n: int
    bounds: tuple[float, float] | None = None

    def __str__(self) -> str:
        text = f"{self.mean:.4g}"
        return text if self.half is None else f"{text} ± {self.half:.2g}"

    @property
    def rounded(self) -> str:
        """The text in whole numbers."""
        return f"{self.mean:,.0f}" + ("" if self.half is None else f" ± {self.half:,.0f}")

    @property
    def full(self) -> str:
        """The text with the bounds or the number of seeds."""
        if self.bounds is not None:
            return f"{self} ({self.bounds[0]:.3f} to {self.bounds[1]:.3f})"
        return str(self) if self.half is None else f"{self} ({self.n} seeds)"


def interval_note(found: Sequence[Estimate]) -> str:
    """Return the line that says what the intervals of `found` mean; empty if there are none."""
    parts = []
    if any(one.bounds is not None for one in found):
        parts.append("(a to b): Wilson's 95% interval over the examples")
    if any(one.half is not None for one in found):
        parts.append("±: Student's t 95% interval of the mean over seeds")
    if any(one.n == 2 for one in found):
        parts.append("two seeds give wide intervals")
    return "; ".join(parts)


class Group(NamedTuple):
    """Runs with the same settings except for their seed; or one run alone."""

    members: list[RunInfo]

    @property
    def first(self) -> RunInfo:
        """The first member, which has the settings of all."""
        return self.members[0]

    @property
    def size(self) -> str:
        """' (3 seeds)', or nothing for one run."""
        return f" ({len(self.members)} seeds)" if len(self.members) > 1 else ""

    @property
    def folder(self) -> str:
        """The folder of the first member, and how many more there are."""
        more = len(self.members) - 1
        return f"{self.first.folder} and {more} more" if more else str(self.first.folder)

    def estimate(self, metric: str) -> Estimate | None:
        """Return mean and interval of a metric; None if a member has no finite number for it."""
        values = [run.value(metric) for run in self.members]
        if any(not isinstance(value, int | float) or not math.isfinite(value) for value in values):
            return None
        found = estimate(values)
        low, high = (self.first.value(f"{metric}_{end}") for end in ("low", "high"))
        has_bounds = len(values) == 1 and low is not None and high is not None
        return found._replace(bounds=(low, high)) if has_bounds else found


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of `values` and its 95% interval (Student's t)."""
    mean = sum(values) / len(values)
    half = mean_interval(values)[1] - mean if len(values) > 1 else None
    return Estimate(mean, half, len(values))


def grouped(found: Sequence[RunInfo], average: bool = True) -> list[Group]:
    """Return the runs in groups, in order; each alone unless `average`.

    Args:
        found: runs; to average them, each seed must occur once (see `without_repeats`).
    """
    if not average:
        return [Group([run]) for run in found]
    groups: dict[Any, list[RunInfo]] = {}
    for run in found:
        groups.setdefault(_key(compared_settings(run)), []).append(run)
    return [Group(members) for members in groups.values()]


def without_repeats(found: Sequence[RunInfo]) -> tuple[list[RunInfo], list[RunInfo]]:
    """Return the runs that differ in settings or seed, and those that repeat one of them.

    A repeated run is the same measurement, not another one: an average must not count it twice.
    The newest finished one stays; without any, the newest.
    """
    best: dict[Any, RunInfo] = {}
    for run in sorted(found, key=lambda run: (run.state == FINISHED, run.started)):
        best[_key(compared_settings(run) | seeds(run))] = run
    kept = {id(run) for run in best.values()}
    return [r for r in found if id(r) in kept], [r for r in found if id(r) not in kept]


def repeats_line(repeats: Sequence[RunInfo]) -> str:
    """Return the line that says which runs were left out."""
    verb = "repeats" if len(repeats) == 1 else "repeat"
    paths = ", ".join(str(run.folder) for run in repeats)
    return f"left out {count(len(repeats), 'run')} that {verb} a seed: {paths}"


def seeds(run: RunInfo) -> dict[str, Any]:
    """Return the settings that are seeds."""
    return {key: value for key, value in run.settings.items() if _last(key) == "seed"}


def compared_settings(run: RunInfo) -> dict[str, Any]:
    """Return the settings that can change a result, except for the seeds."""
    return {key: value for key, value in run.settings.items() if _changes_results(key)}


def _changes_results(key: str) -> bool:
    watches = key.partition(".")[0] in WATCHING or key in DESCRIPTIVE
    return not (watches or _last(key).startswith("every_n_") or _last(key) in ("seed", "cache"))


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _key(settings: dict[str, Any]) -> Any:
    return tuple(sorted((key, repr(value)) for key, value in settings.items()))
