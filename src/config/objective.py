"""The metrics that a sweep optimizes, from the setting `objective` or from the model."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from src.config.schema import shown
from src.config.signatures import class_attribute
from src.core.errors import UserError, near
from src.metrics.directions import Direction, direction


class Objective(NamedTuple):
    """A metric of metrics.json, and whether lower (`min`) or higher (`max`) is better."""

    metric: str
    mode: Direction


def objectives(cfg: Mapping[str, Any]) -> list[Objective]:
    """Return the objectives of a run.

    Without objective.metric it is the metric that the model class names: `monitor`, else the
    first of `key_metrics` on validation images.

    Raises UserError if the settings do not fit together.
    """
    settings = cfg.get("objective") or {}
    given, modes = _listed(settings.get("metric")), _listed(settings.get("mode"))
    if not given:
        given = [_default(str(cfg["model"]["_target_"]))]
    if modes and len(modes) != len(given):
        raise UserError(
            f"objective.mode={shown(','.join(modes))} must have a value for each of the metrics "
            f"{shown(', '.join(given))}"
        )
    found = modes or [direction(metric) for metric in given]
    for metric, mode in zip(given, found, strict=True):
        if mode is None:
            raise UserError(
                f"objective.mode must be given, min or max: the name of {shown(metric)} does not "
                f"say which is better{_hint(cfg, metric)}"
            )
    return [Objective(metric, mode) for metric, mode in zip(given, found, strict=True)]


def candidates(cfg: Mapping[str, Any]) -> list[Objective]:
    """Return what a grid may be compared by if it names no objective, the best first.

    Its runs may lack the metric that `objectives` returns, because a callback is off.
    """
    names = class_attribute(str(cfg["model"]["_target_"]), "key_metrics") or ()
    metrics = [f"{stage}/{name}" for name in names for stage in ("val", "test")]
    known = [Objective(metric, mode) for metric in metrics if (mode := direction(metric))]
    return [*objectives(cfg), *known]


def _hint(cfg: Mapping[str, Any], metric: str) -> str:
    stage = "test" if metric.startswith("test/") else "val"
    own = class_attribute(str(cfg["model"]["_target_"]), "key_metrics") or ()
    return near(metric, [f"{stage}/{name}" for name in own])


def _listed(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _default(model: str) -> str:
    names = class_attribute(model, "key_metrics") or ("loss",)
    return class_attribute(model, "monitor") or f"val/{names[0]}"


def objective_values(metrics: Mapping[str, Any], wanted: list[Objective]) -> list[float]:
    """Return the value of each objective; NaN for one that is not finite.

    Args:
        metrics: the content of a metrics.json, in which null means not finite.

    Raises UserError for a metric that does not exist.
    """
    values = []
    for metric, _ in wanted:
        if metric not in metrics:
            known = sorted(k for k, v in metrics.items() if isinstance(v, float) and "/" in k)
            hint = near(metric, known) or f"; the run has {', '.join(known)}"
            raise UserError(f"objective.metric={shown(metric)} is not a metric of this run{hint}")
        value = metrics[metric]
        is_number = isinstance(value, int | float) and math.isfinite(value)
        values.append(float(value) if is_number else math.nan)
    return values
