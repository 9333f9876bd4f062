"""What a run says when it is done: metrics.json, the HPARAMS tab, a summary with figures, paths and the next command."""

import json
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from src import run
from src.callbacks.common import batches_seen, data_of
from src.callbacks.loggers import Board
from src.callbacks.quality import SampleQuality
from src.callbacks.record import Record
from src.config import leaves
from src.data.base import log


def report(
    trainer: pl.Trainer, cfg: DictConfig, folder: Path, metrics: dict[str, float]
) -> dict[str, Any]:
    """Write and print what `metrics` and the callbacks hold; returns what is in metrics.json."""
    data = data_of(trainer)
    values: dict[str, Any] = {**metrics, "batches": batches_seen(trainer)}
    if "test/bound_nats" in metrics or "val/bound_nats" in metrics:
        values["nats_of"] = f"{data.name}, {data.pixels}"
    for callback in cast(Any, trainer).callbacks:
        if isinstance(callback, Record):
            values |= callback.summary()
        elif isinstance(callback, SampleQuality) and callback.features:
            values["features"] = callback.features
    if not trainer.is_global_zero:
        return values
    for line in headline_lines(values):
        log.info(line)
    try:
        for logger in trainer.loggers:
            logger.save()
        run.write_metrics(folder, values)
    except OSError:
        log.info("all figures: %s", json.dumps(values))
        raise
    for logger in trainer.loggers:
        if isinstance(logger, Board):
            logger.log_final(
                flat(cfg), {name: value for name, value in metrics.items() if _headline(name)}
            )
    log.info("numbers      %s and metrics.csv", folder / "metrics.json")
    if (folder / "images").is_dir():
        log.info("pictures     %s", folder / "images")
    log.info("TensorBoard  make tensorboard   (or: python -m tensorboard.main --logdir %s)", folder)
    return values


def flat(cfg: DictConfig) -> dict[str, Any]:
    """The settings that tell runs apart, by dotted name, as plain values; a `_target_` by its last word."""
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    told = ("seed", "data.name", "data.size", "data.batch_size", "data.train_size", "data.train_per_class",
            "trainer.max_epochs", "trainer.precision")  # fmt: skip
    chosen: dict[str, Any] = {}
    for path, value in leaves({str(key): node for key, node in plain.items()}):
        if path.endswith("._target_"):
            path, value = path.removesuffix("._target_"), str(value).rpartition(".")[2]
        if path in told or (path.startswith("model") and not path.endswith("_partial_")):
            chosen[path] = value if isinstance(value, (int, float, str, bool)) else str(value)
    return chosen


def headline_lines(values: dict[str, Any]) -> list[str]:
    """The figures worth a line on the terminal, aligned."""
    chosen = {name: value for name, value in values.items() if _headline(name)}
    width = max(map(len, chosen), default=0)
    return [
        f"  {name:{width}} {f'{value:,.4g}' if isinstance(value, float) else value}"
        for name, value in chosen.items()
    ]


def _headline(name: str) -> bool:
    """Is it worth a line on the terminal? The floors and class shares are in metrics.json."""
    detail = name.endswith("_floor") and not name.endswith("fid_own_floor")
    detail |= any(part in name for part in ("/class_", "_classes/", "_steps/"))
    return not (detail or name.startswith("train/") or name == "epoch")
