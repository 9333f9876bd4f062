"""The messages of a training run: one line before it starts, and its metrics at the end."""

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig

from src.callbacks import report as metrics_report
from src.callbacks.checkpoint import best_checkpoint
from src.callbacks.early_stopping import how_to_train_longer
from src.callbacks.pruning import is_pruned
from src.core import run_record
from src.core.counts import count
from src.core.progress import progress
from src.nets.inspect import count_parameters

log = logging.getLogger(__name__)


def describe(model: pl.LightningModule, datamodule: Any, trainer: pl.Trainer) -> str:
    """Return a line with the model, the sizes of its data and the hardware."""
    trained, total = count_parameters(model)
    parameters = f"{trained:,}" if trained == total else f"{trained:,} of {total:,}"
    val = f"{len(datamodule.val)} to validate"
    if not len(datamodule.val) and hasattr(datamodule, "val_size"):
        val = "none to validate: data.val_size=0"
    sizes = f"{len(datamodule.train)} to train, {val}"
    return (
        f"{type(model).__name__} on {datamodule.name} ({sizes}, {len(datamodule.test)} to test), "
        f"{parameters} parameters, {trainer.strategy.root_device}, {trainer.precision}"
    )


def record_device(folder: Path, trainer: pl.Trainer) -> None:
    """Write to run.json on which device, and with how many processes and threads, the run trains.

    The same numbers need the same device, precision and number of threads.
    """
    device = trainer.strategy.root_device
    run_record.update(
        folder,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        precision=str(trainer.precision),
        processes=trainer.world_size,
        threads=torch.get_num_threads(),
    )


def report(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    cfg: DictConfig,
    folder: Path,
    metrics: dict[str, Any],
    done: int,
    seconds: float,
) -> dict[str, Any]:
    """Print the metrics of a run and write them to metrics.json; return them.

    Args:
        metrics: the results of fit and test.
        done: batches that earlier sessions had finished.
        seconds: duration of this session.
    """
    metrics["parameters"] = count_parameters(model)[0]
    best = best_checkpoint(trainer)
    if best is not None:
        metrics |= {f"best/{best[0]}": best[1], "best/batches": best[2]}
    has_trained = progress(trainer).batch > done
    if not has_trained:
        log.info(how_to_train_longer(trainer))
    values = metrics_report.report(trainer, cfg, folder, metrics, has_trained, seconds)
    if is_pruned(trainer):
        run_record.update(folder, state=run_record.PRUNED)
    if best is not None:
        log.info("best         %s %.4g after %s; commands use it with which=best",
                 best[0], best[1], count(best[2], "batch"))  # fmt: skip
    return values
