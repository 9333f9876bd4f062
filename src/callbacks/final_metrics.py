"""The metrics of a finished run: metrics.json, TensorBoard's tabs, and lines on the terminal."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pytorch_lightning as pl
from omegaconf import DictConfig

from src.callbacks.hparams import hparam_settings
from src.callbacks.progress import format_rate, format_seconds
from src.callbacks.quality import SampleQuality
from src.callbacks.train_metrics import TrainMetrics, peak_memory_mb
from src.callbacks.trainer_state import callbacks, datamodule
from src.core import runs
from src.core.counts import count
from src.core.progress import progress
from src.metrics.key_metrics import KeyMetric, format_value, key_metric_lines, select_key_metrics

log = logging.getLogger(__name__)


@runtime_checkable
class Basis(Protocol):
    """A callback that knows how many images its metrics are based on.

    Attributes:
        counts: numbers of images, samples or draws by name: {"test/samples": 10000}.
        based_on: metric -> the name of its count. Others are based on `test/n` or `val/n`.
    """

    counts: dict[str, int]
    based_on: dict[str, str]


@runtime_checkable
class KeepsResults(Protocol):
    """A logger that keeps the settings of a run beside the metrics that they led to."""

    def log_final(self, settings: dict[str, Any], metrics: dict[str, float]) -> None:
        """Write the settings and metrics of the finished run, the key metrics first."""


@runtime_checkable
class Opens(Protocol):
    """A logger that a user looks at with a program of its own."""

    def how_to_open(self) -> str:
        """Return a line that says how."""


def write_final_metrics(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    cfg: DictConfig,
    folder: Path,
    metrics: dict[str, Any],
    trained: bool,
    elapsed: float,
) -> dict[str, Any]:
    """Write and print `metrics` and those of the callbacks; return the content of metrics.json.

    Args:
        trained: whether this session trained. If so, older metrics are dropped, because they are
            of another model.
        elapsed: seconds of this session.
    """
    data = datamodule(trainer)
    values: dict[str, Any] = {**metrics, **basis(trainer)[0], "batches": progress(trainer).batch}
    if "test/bound_nats" in metrics or "val/bound_nats" in metrics:
        values["nats_of"] = f"{data.name}, {data.pixel_kind}"
    before = {} if trained else runs.read_metrics(folder)
    for callback in callbacks(trainer):
        if isinstance(callback, TrainMetrics):  # a finished run keeps its times
            times = callback.times(elapsed)
            values |= {name: before.get(name, value) for name, value in times.items()}
    values["peak_memory_mb"] = peak_memory_mb()
    if not trainer.is_global_zero:
        return values
    key_metrics = select_key_metrics(values, getattr(model, "key_metrics", ()))
    for line in [*key_metric_lines(key_metrics), _effort(values)]:
        log.info(line)
    try:
        for logger in trainer.loggers:
            logger.save()
        runs.write_metrics(folder, values, merge=not trained)
    except OSError:
        log.info("all metrics: %s", json.dumps(values))
        raise
    for logger in trainer.loggers:
        if isinstance(logger, KeepsResults):
            logger.log_final(hparam_settings(cfg, folder), _sorted_metrics(metrics, key_metrics))
    return values


def _effort(values: Mapping[str, Any]) -> str:
    """Return a line with the number of batches, the time, the speed and the memory of a run."""
    rate = values.get("images_per_second")
    seconds = values.get("seconds")
    parts = [
        count(values["batches"], "batch"),
        f"{format_seconds(seconds)} seconds" if seconds is not None else "",
        f"{format_rate(rate)} in training" if rate is not None else "",
        f"peak memory {values['peak_memory_mb']:,.0f} MB",
    ]
    return f"  {', '.join(part for part in parts if part)}"


def _sorted_metrics(
    metrics: Mapping[str, Any], key_metrics: Sequence[KeyMetric]
) -> dict[str, float]:
    """Return the metrics that are worth a line, the key metrics first."""
    names = dict.fromkeys([*(metric.name for metric in key_metrics), *metrics])
    return {
        name: metrics[name]
        for name in names
        if _headline(name) and isinstance(metrics.get(name), float)
    }


def _short(value: Any) -> str:
    return format_value(value) if isinstance(value, float) else str(value)


def basis(trainer: pl.Trainer) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the counts that metrics are based on, and metric -> the name of its count."""
    counts: dict[str, Any] = {}
    based_on: dict[str, str] = {}
    for callback in callbacks(trainer):
        if isinstance(callback, Basis):
            counts |= callback.counts
            based_on |= callback.based_on
        if isinstance(callback, SampleQuality) and callback.features:
            counts["features"], based_on["features"] = callback.features, "test/samples"
    return counts, based_on


def keep_larger(
    old: dict[str, Any], new: dict[str, Any], based_on: dict[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Drop `new` metrics that are based on fewer images than the `old` ones.

    Returns the others, and a line for each count that is smaller.
    """
    counts = {"val/n", "test/n", *based_on.values()}
    by_count: dict[str, list[str]] = {count: [] for count in counts if count in new}
    for name in (name for name in new if name not in counts):
        stage = name.partition("/")[0].partition("_")[0]
        by_count.setdefault(based_on.get(name, f"{stage}/n"), []).append(name)
    kept, lines = dict(new), []
    for counted, names in by_count.items():
        before, now = old.get(counted), new.get(counted)
        if before is None and any(name in old for name in names):
            lines.append(
                f"replaced older metrics: metrics.json did not record {counted} for them "
                "(the number of images they were computed from)"
            )
        if not (isinstance(before, int) and isinstance(now, int) and now < before):
            continue
        for name in (counted, *names):
            kept.pop(name, None)
        shown = [
            f"{n} {old[n]:.4g}" for n in names if _headline(n) and isinstance(old.get(n), float)
        ]
        lines.append(
            f"not saved: {counted}={now:,} is smaller than the {before:,} of the metrics in "
            f"metrics.json, which are kept: {', '.join(shown)}"
        )
    return kept, lines


def headline_lines(values: dict[str, Any]) -> list[str]:
    """Return the metrics that are worth a line on the terminal, aligned."""
    chosen = {name: value for name, value in values.items() if _headline(name)}
    width = max(map(len, chosen), default=0)
    return [f"  {name:{width}} {_short(value)}" for name, value in chosen.items()]


def _headline(name: str) -> bool:
    """Return whether a metric is worth a line on the terminal. Floors and class shares are not."""
    detail = name.endswith("_floor") and not name.endswith("fid_own_floor")
    detail |= any(part in name for part in ("/class_", "_classes/", "_steps/"))
    return not (detail or name.startswith("train/") or name == "epoch")
