"""Groups of runs that differ only in their seed, with the mean and interval of each metric."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from src.metrics.intervals import mean_interval
from src.runs.info import RunInfo

# settings that change no result: watching a run changes nothing
DESCRIPTIVE = ("out", "resume", "name", "tags", "note", "trainer.log_every_n_steps")
WATCHING = ("recommended", "logger", "checkpoint", "objective")


class Estimate(NamedTuple):
    """The mean of a metric over n runs, and its 95% interval; one run has none."""

    mean: float
    half: float | None
    n: int

    def __str__(self) -> str:
        text = f"{self.mean:.4g}"
        return text if self.half is None else f"{text} ± {self.half:.2g}"


class Group(NamedTuple):
    """Runs with the same settings except for their seed; or one run alone.

    Attributes:
        label: the name or folder of the first run, and the number of seeds.
    """

    label: str
    members: list[RunInfo]

    @property
    def first(self) -> RunInfo:
        """The first member, which has the settings of all."""
        return self.members[0]

    def estimate(self, metric: str) -> Estimate | None:
        """Return mean and interval of a metric; None if a member lacks it."""
        values = [run.value(metric) for run in self.members]
        if any(not isinstance(value, int | float) for value in values):
            return None
        return estimate(values)


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of `values` and its 95% interval (Student's t)."""
    mean = sum(values) / len(values)
    half = mean_interval(values)[1] - mean if len(values) > 1 else None
    return Estimate(mean, half, len(values))


def grouped(found: Sequence[RunInfo], average: bool = True) -> list[Group]:
    """Return the runs in groups, in order; each alone unless `average`."""
    groups: dict[Any, list[RunInfo]] = {}
    for run in found:
        key = tuple(sorted((k, repr(v)) for k, v in compared_settings(run).items()))
        groups.setdefault(key if average else run.folder, []).append(run)
    return [Group(_label(members), members) for members in groups.values()]


def compared_settings(run: RunInfo) -> dict[str, Any]:
    """Return the settings that can change a result, except for the seeds."""
    return {key: value for key, value in run.settings.items() if _changes_results(key)}


def _changes_results(key: str) -> bool:
    group, last = key.partition(".")[0], key.rpartition(".")[2]
    watches = group in WATCHING or key in DESCRIPTIVE or last.startswith("every_n_")
    return not watches and last not in ("seed", "cache")


def _label(members: list[RunInfo]) -> str:
    first = members[0]
    label = str(first.fields["name"] or first.label)
    if len(members) == 1:
        return label
    seeds = ", ".join(str(run.settings.get("seed")) for run in members)
    return f"{label} (seeds {seeds})"
