"""The messages of a training run: one line before it starts, and its key metrics at the end."""

import logging
import shlex
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from src.callbacks.checkpoint import best_checkpoint
from src.callbacks.early_stopping import how_to_train_longer
from src.callbacks.final_metrics import Opens, write_final_metrics
from src.callbacks.loggers import TensorBoard
from src.callbacks.pruning import is_pruned
from src.callbacks.run_page import RunPage
from src.callbacks.trainer_state import callbacks, datamodule
from src.core import run_record
from src.core.counts import count
from src.core.progress import progress
from src.nets.inspect import count_parameters

log = logging.getLogger(__name__)


def describe(model: pl.LightningModule, data: Any, trainer: pl.Trainer) -> str:
    """Return a line with the model, the sizes of its data and the hardware."""
    trained, total = count_parameters(model)
    parameters = f"{trained:,}" if trained == total else f"{trained:,} of {total:,}"
    val = f"{len(data.val)} to validate"
    if not len(data.val) and hasattr(data, "val_size"):
        val = f"none to validate: data.val_size={data.val_size:g}"
    sizes = f"{len(data.train)} to train, {val}"
    return (
        f"{type(model).__name__} on {data.name} ({sizes}, {len(data.test)} to test), "
        f"{parameters} parameters, {trainer.strategy.root_device}, {trainer.precision}"
    )


def record_start(folder: Path, trainer: pl.Trainer, cfg: DictConfig, done: int) -> None:
    """Write to run.json on which device, and with how many processes and threads, the run trains.

    The same numbers need the same device, precision and number of threads. TensorBoard's Text tab
    gets the config and the command.

    Args:
        done: batches that earlier sessions had finished.
    """
    command = run_record.read(folder).get("sessions", [{}])[-1].get("command", "")
    texts = {"config": OmegaConf.to_yaml(cfg, resolve=True), "command": command}
    boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoard)]
    for board in boards:
        for name, text in texts.items():
            board.log_text(name, f"```\n{text}\n```", done)
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
    values = write_final_metrics(trainer, model, cfg, folder, metrics, has_trained, seconds)
    if is_pruned(trainer):
        run_record.update(folder, state=run_record.PRUNED)
    if not trainer.is_global_zero:
        return values
    if best is not None:
        log.info("best         %s %.4g after %s; commands use it with which=best",
                 best[0], best[1], count(best[2], "batch"))  # fmt: skip
    choices = run_record.read(folder).get("choices", {})
    title = f"{choices.get('model', type(model).__name__)} on {datamodule(trainer).name}"
    pages = [one for one in callbacks(trainer) if isinstance(one, RunPage)]
    page = pages[0].write(model, cfg, folder, values, title) if pages else None
    log.info("metrics      %s and metrics.csv", folder / "metrics.json")
    if (folder / "images").is_dir():
        log.info("pictures     %s", folder / "images")
    if page is not None:
        log.info("report       %s", page)
    command = shlex.join(["python", "-m", "tensorboard.main", "--logdir", str(folder)])
    log.info("TensorBoard  make tensorboard   (or: %s)", command)
    for logger in trainer.loggers:
        if isinstance(logger, Opens):
            log.info(logger.how_to_open())
    return values
