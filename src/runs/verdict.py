"""The sentence at the end of a comparison: is the best better than the second best?"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from src.config.targets import marked
from src.core.run_record import FINISHED
from src.core.types import INPUT
from src.metrics.directions import direction
from src.metrics.intervals import newcombe, welch
from src.runs.info import RunInfo
from src.runs.seeds import Group

EXAMPLES = {"test": "test examples", "val": "validation examples"}
# settings of data that decide on which examples a run is tested, besides its files
TEST_SET = ("name", "classes", "num_classes", "size", "channels", "binarize", "permute",
            "split_seed", "test_size", "limit", "left_out")  # fmt: skip


class Difference(NamedTuple):
    """By how much the best is better than the second best.

    Attributes:
        value: 0 or more.
        interval: of 95%; None: the runs do not give one.
        basis: the noise that the interval covers; without an interval, why there is none.
    """

    value: float
    interval: tuple[float, float] | None
    basis: str


def verdict(groups: Sequence[Group], names: Sequence[str], metrics: Sequence[str]) -> str | None:
    """Return the sentence for the first metric that all groups have; None if there is none.

    Args:
        groups: at least one.
        names: a name for each group.
        metrics: names of metrics, the most important first; those without a better and a worse
            direction are skipped.
    """
    metric = next((m for m in metrics if direction(m) and all(g.estimate(m) for g in groups)), None)
    if metric is None or len(groups) < 2:
        return None
    sign = 1 if direction(metric) == "max" else -1
    means = [sign * _mean(_values(group, metric)) for group in groups]
    first, second = sorted(range(len(groups)), key=lambda k: -means[k])[:2]
    a, b, found = names[first], names[second], difference(groups[first], groups[second], metric)
    value = f"{found.value:.3g}"
    if found.interval is None:
        return f"{a} has the best {metric}; {b} is second by {value}. {found.basis}"
    low, high = (f"{end:.2g}" for end in found.interval)
    text = f"{value} {metric} (95% interval {low} to {high} {found.basis})"
    if len(groups[first].members) == 1:
        text += "; one seed each, other seeds may differ"
    if found.interval[0] > 0:
        return f"{a} is better than {b} by {text}"
    return f"{a} and {b} cannot be distinguished: difference {text}"


def difference(best: Group, second: Group, metric: str) -> Difference:
    """Return the difference of two groups, with its interval if the runs give one.

    That of two runs is over the test examples, if the metric is a share of them: two trained models
    are compared. It is too wide rather than too narrow, because both had the same examples. That of
    two groups of seeds is over the seeds: two recipes are compared.
    """
    sign = 1 if direction(metric) == "max" else -1
    samples = [[sign * value for value in _values(group, metric)] for group in (best, second)]
    value = _mean(samples[0]) - _mean(samples[1])
    runs = [run for group in (best, second) for run in group.members]
    if any(run.state != FINISHED for run in runs):
        return Difference(value, None, "One of them has not finished: no interval")
    stage = metric.partition("/")[0]
    n = {run.value(f"{stage}/n") for run in runs}
    if len(n) > 1 or any(_data(run) != _data(runs[0]) for run in runs):
        return Difference(value, None, "They were tested on different data: no interval")
    if min(map(len, samples)) > 1:
        if all(len(set(sample)) == 1 for sample in samples):
            return Difference(value, None, "All seeds are equal: no interval; run more seeds")
        return Difference(value, welch(*samples), "over seeds")
    if len(runs) > 2:
        reason = "One of them has a single seed: no interval; run more seeds"
        return Difference(value, None, reason)
    (trials,) = n
    if not trials or best.first.value(f"{metric}_low") is None:
        return Difference(value, None, "One seed each: no interval; run more seeds")
    interval = newcombe([sample[0] * trials for sample in samples], [trials, trials])
    return Difference(value, interval, f"over {trials} {EXAMPLES[stage]}")


def _data(run: RunInfo) -> list[Any]:
    """Return the settings that decide on which examples a run was tested, with resolved paths."""
    folder = run.record["sessions"][-1].get("directory", "") if run.record else ""
    names = marked(str(run.settings.get("data._target_")), INPUT)
    paths = [run.settings.get(f"data.{name}") for name in names]
    files = [os.path.realpath(Path(folder, path).expanduser()) if path else path for path in paths]
    return [*files, *(run.settings.get(f"data.{name}") for name in TEST_SET)]


def _values(group: Group, metric: str) -> list[float]:
    return [float(run.value(metric)) for run in group.members]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
