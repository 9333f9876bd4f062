"""The key metrics of a run, and whether lower or higher is better."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from src.metrics.directions import direction

MAX_KEY_METRICS = 5
STAGES = ("test", "val")
WORDS = {"min": "lower is better", "max": "higher is better", None: ""}


class KeyMetric(NamedTuple):
    """A metric with its value.

    Attributes:
        name: its name with its stage, such as `test/acc`.
        value: its value.
        note: what is better, its 95% interval, or the value of real images.
    """

    name: str
    value: float
    note: str


def select_key_metrics(values: Mapping[str, Any], names: Sequence[str]) -> list[KeyMetric]:
    """Return the first five of `names` that were measured, each of its latest stage.

    Args:
        values: the content of metrics.json.
        names: names of metrics without their stage, see `src.models.base.Family.key_metrics`. If
            none of them was measured, all metrics of the latest stage count.
    """
    found = [
        next((m for stage in STAGES if _is_number(values.get(m := f"{stage}/{name}"))), None)
        for name in names
    ]
    chosen = [metric for metric in found if metric]
    for stage in STAGES if not chosen else ():
        chosen = chosen or [name for name in values if _is_of(stage, name, values)]
    return [KeyMetric(name, values[name], _note(name, values)) for name in chosen[:MAX_KEY_METRICS]]


def key_metric_lines(key_metrics: Sequence[KeyMetric]) -> list[str]:
    """Return a line for each metric, aligned."""
    width = max((len(metric.name) for metric in key_metrics), default=0)
    return [
        f"  {metric.name:{width}}  {format_value(metric.value):8} {metric.note}".rstrip()
        for metric in key_metrics
    ]


def format_value(value: float) -> str:
    """Return a number with four significant digits."""
    return f"{value:,.4g}"


def _is_number(value: Any) -> bool:
    return isinstance(value, float)  # counts are whole


def _is_of(stage: str, name: str, values: Mapping[str, Any]) -> bool:
    """Return whether `name` is a metric of a stage, and no bound of an interval or a floor."""
    detail = name.endswith(("_floor", "_low", "_high")) or "/class_" in name
    return name.startswith(f"{stage}/") and not detail and _is_number(values[name])


def _note(name: str, values: Mapping[str, Any]) -> str:
    parts = [WORDS[direction(name)]]
    if f"{name}_low" in values and f"{name}_high" in values:
        low, high = (format_value(values[f"{name}_{end}"]) for end in ("low", "high"))
        parts.append(f"95% interval {low} to {high}")
    if f"{name}_floor" in values:
        parts.append(f"{format_value(values[f'{name}_floor'])} for training images")
    return "; ".join(part for part in parts if part)
