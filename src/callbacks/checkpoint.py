"""Checkpoints to resume from, the best ones, and a clean stop at a signal."""

import logging
import math
import signal
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from src.callbacks.best import BestCheckpoints
from src.callbacks.early_stopping import EarlyStopping
from src.callbacks.final_metrics import basis
from src.callbacks.trainer_state import (
    callbacks,
    expect_validation,
    max_over_processes,
    monitored,
)
from src.core import runs, signals
from src.core.counts import count
from src.core.errors import Interrupted, UserError
from src.core.progress import progress
from src.metrics.directions import Direction, mode_of

log = logging.getLogger(__name__)

SLOW = 1.0  # checkpoints that take more seconds to write are not written after every epoch
SHARE = 0.05  # largest part of the training time that these slow checkpoints may take


class Checkpoint(pl.Callback):
    """Write folder/checkpoints/last.ckpt every n batches, after epochs, and on a signal.

    It is written after each epoch. If writing takes more than a second, some epochs are skipped, so
    that checkpoints take at most a twentieth of the time. The last epoch, one that ends at a
    multiple of n batches and one with a new best value are always saved.

    A stop signal (see `src.core.signals`) lets the batch finish, writes the checkpoint and raises
    `Interrupted`; a second one, more than two seconds later, stops at once. If several processes
    train one model, all stop after the same batch, whichever of them received the signal.

    At the last batch of an epoch, it waits for the hooks at the end of the epoch: a run that is
    resumed from an earlier checkpoint would skip them. Partially accumulated gradients are saved
    too, and so are the newest validation metrics, which a run that is resumed after its last batch
    still has to report.

    If trainer.max_time expires mid-epoch, the checkpoint is written immediately. Lightning then
    runs the end-of-epoch hooks although the epoch is incomplete, so no checkpoint is written there.

    After each validation at the end of an epoch, the checkpoint is also kept if it is among the
    best (see `src.callbacks.best`).

    Args:
        folder: the run's folder.
        every_n_batches: interval; None: only after epochs.
        monitor: metric of validation that chooses the best checkpoints; None: that of early
            stopping, or keep none.
        mode: `min` if lower values are better, `max` if higher; None: inferred from its name.
        keep: number of best checkpoints.

    Attributes:
        best: the bookkeeping of the best checkpoints; None: none are kept.
        metrics: validation metrics and their counts, by name; saved in checkpoints.
    """

    def __init__(
        self,
        folder: Path,
        every_n_batches: int | None,
        monitor: str | None = None,
        mode: Direction | None = None,
        keep: int = 1,
    ) -> None:
        self.folder, self.every_n_batches = folder, every_n_batches
        self.monitor, self.mode, self.keep = monitor, mode, keep
        self.best: BestCheckpoints | None = None
        self.newest: tuple[int, float] | None = None  # batches and value of the last validation
        self.metrics: dict[str, Any] = {}
        self.saved_at, self.seconds = -math.inf, 0.0  # end and duration of the last save
        self.signum = 0
        self.handlers: dict[int, Any] = {}
        self.accumulated: dict[str, Tensor] = {}
        self.timed_out = self.stopped_mid_epoch = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        monitor = self.monitor
        mode = mode_of(monitor, self.mode)
        for callback in callbacks(trainer) if monitor is None else []:
            if isinstance(callback, EarlyStopping):
                monitor, mode = callback.monitor, "max" if callback.mode == "max" else "min"
        if stage == "fit" and monitor is not None:
            self.best = BestCheckpoints(self.folder / "checkpoints", monitor, mode, self.keep)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        if trainer.max_epochs is not None and 0 <= trainer.max_epochs < done:
            raise UserError(
                f"trainer.max_epochs={trainer.max_epochs} is less than the "
                f"{count(done, 'epoch')} that the run has finished"
            )
        self.accumulated = checkpoint.get("gradients", {})
        self.metrics = checkpoint.get("metrics", {})
        if self.best is not None:
            self.best.load_state_dict(checkpoint.get("best", {}))
            if trainer.is_global_zero:  # a killed process may have left a link out
                self.best.link(runs.last_checkpoint(self.folder), runs.batches_in(checkpoint))

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.metrics |= basis(trainer)[0]
        checkpoint["metrics"] = dict(self.metrics)
        if self.best is not None:
            checkpoint["best"] = self.best.state_dict()
        batches = trainer.fit_loop.epoch_loop.batch_progress
        if batches.current.ready % trainer.accumulate_grad_batches and not batches.is_last_batch:
            parameters = pl_module.named_parameters()
            gradients = {name: p.grad for name, p in parameters if p.grad is not None}
            # until the step, each process has gradients of its own: save all, (processes, ...)
            checkpoint["gradients"] = pl_module.all_gather(gradients)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.handlers = signals.install(self._on_signal)
        for name, gradient in self.accumulated.items():
            parameter = pl_module.get_parameter(name)
            # several processes saved it; if their number has changed, each takes the mean
            if gradient.ndim > parameter.ndim:
                same_number = len(gradient) == trainer.world_size
                gradient = gradient[trainer.global_rank] if same_number else gradient.mean(0)
            parameter.grad = gradient.to(pl_module.device)
        self.accumulated = {}
        if self.best is not None:
            expect_validation(trainer, "checkpoint.monitor", self.best.monitor)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # values that only the first process logs are not known to the others
        is_fit = trainer.state.fn == "fit" and not trainer.sanity_checking
        if is_fit and self.best is not None and trainer.is_global_zero:
            value = monitored(trainer, "checkpoint", self.best.monitor)
            self.newest = progress(trainer).batch, value

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore_handlers()
        if signum := max_over_processes(trainer, self.signum):  # it came after the last save
            self._stop(trainer, signum)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        signals.restore(self.handlers)
        self.handlers = {}

    def _on_signal(self, signum: int, frame: Any) -> None:
        if signals.is_repeat():
            return
        if self.signum:
            name = signal.Signals(signum).name
            raise Interrupted(signum, f"{name}: stopped without saving; {self._resume()}")
        self.signum = signum

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.timed_out = trainer.should_stop  # before the end of an epoch only max_time stops a run
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return
        due = (
            self.every_n_batches is not None and progress(trainer).batch % self.every_n_batches == 0
        )
        signum = max_over_processes(trainer, self.signum)
        self.stopped_mid_epoch = self.timed_out
        if due or self.stopped_mid_epoch or signum:
            self._save(trainer, signum)
        if self.stopped_mid_epoch:
            self._log_out_of_time(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.stopped_mid_epoch:
            batches, value = self.newest or (0, 0.0)
            if self.best is not None and batches == progress(trainer).batch:
                self.best.observe(value, batches)
            signum = max_over_processes(trainer, self.signum)
            if signum or max_over_processes(trainer, int(self._is_due(trainer))):
                self._save(trainer, signum)
            if self.timed_out and progress(trainer).epoch != trainer.max_epochs:
                self._log_out_of_time(trainer)

    def _log_out_of_time(self, trainer: pl.Trainer) -> None:
        again = f"{runs.resume_command(self.folder)} trainer.max_time=null"
        batches = count(progress(trainer).batch, "batch")
        log.info("max_time reached after %s; resume with: %s", batches, again)

    def _is_due(self, trainer: pl.Trainer) -> bool:
        """Return whether to save after this epoch."""
        epoch, batch, _ = progress(trainer)
        is_last = trainer.should_stop or epoch == trainer.max_epochs
        is_due = self.every_n_batches is not None and batch % self.every_n_batches == 0
        is_best = self.best is not None and self.best.is_kept(batch)
        is_cheap = self.seconds < SLOW or time.monotonic() - self.saved_at > self.seconds / SHARE
        return is_last or is_due or is_best or is_cheap

    def _save(self, trainer: pl.Trainer, signum: int) -> None:
        start = time.monotonic()
        for logger in trainer.loggers:
            logger.save()
        path = self.folder / "checkpoints" / runs.LAST
        trainer.save_checkpoint(path)
        if self.best is not None and trainer.is_global_zero:
            self.best.link(path, progress(trainer).batch)
        self.saved_at = time.monotonic()
        self.seconds = self.saved_at - start
        if signum:
            self._stop(trainer, signum)

    def _stop(self, trainer: pl.Trainer, signum: int) -> None:
        name, batches = signal.Signals(signum).name, count(progress(trainer).batch, "batch")
        log.info("%s: stopped after %s; %s", name, batches, self._resume())
        raise Interrupted(signum)

    def _resume(self) -> str:
        return f"resume with: {runs.resume_command(self.folder)}"


def best_checkpoint(trainer: pl.Trainer) -> tuple[str, float, int] | None:
    """Return metric, value and batches of the best checkpoint; None if none is kept."""
    for callback in callbacks(trainer):
        if isinstance(callback, Checkpoint) and callback.best is not None and callback.best.kept:
            first = callback.best.kept[0]
            return callback.best.monitor, first["value"], first["batches"]
    return None


def latest_metrics(trainer: pl.Trainer) -> dict[str, Any]:
    """Return the newest value of each metric, from this session or an earlier one."""
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for callback in callbacks(trainer):
        if isinstance(callback, Checkpoint):
            return callback.metrics | values
    return values
