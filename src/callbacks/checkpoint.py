"""Checkpoints to go on from, and signals that end a run in good order."""

import signal
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from src.callbacks.common import batches_seen
from src.data.base import log
from src.errors import Interrupted, UserError


class Checkpoint(pl.Callback):
    """Write folder/checkpoints/last.ckpt every n batches, at the end of each epoch, and on SIGINT or SIGTERM.

    A signal lets the batch finish, writes the checkpoint and raises `Interrupted`; a second one, or one outside training,
    stops at once. The last batch of an epoch is written after the epoch's end has run, since Lightning would else forget
    that the end is due. Where a gradient is gathered over several batches, what there is of it is kept too.

    A run whose time is up (trainer.max_time) goes on from inside its epoch too: the epoch's end, which Lightning comes to
    early then, is not written.

    Args:
        folder: of the run.
        every_n_batches: None for the end of epochs only.
    """

    def __init__(self, folder: Path, every_n_batches: int | None) -> None:
        self.folder, self.every_n_batches = folder, every_n_batches
        self.signum: int | None = None
        self.handlers: dict[int, Any] = {}
        self.training = False
        self.gathered: dict[str, Tensor] = {}
        self.inside = False  # an epoch, is where the run stops

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.handlers = {
            signum: signal.signal(signum, self._note) for signum in (signal.SIGINT, signal.SIGTERM)
        }

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for signum, handler in self.handlers.items():
            signal.signal(signum, handler)
        self.handlers = {}

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.teardown(trainer, pl_module, "")

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        if trainer.max_epochs is not None and 0 <= trainer.max_epochs < done:
            raise UserError(
                f"trainer.max_epochs={trainer.max_epochs}: the run has {done} behind it"
            )
        self.gathered = checkpoint.get("gradients", {})

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        progress = trainer.fit_loop.epoch_loop.batch_progress
        if progress.current.ready % trainer.accumulate_grad_batches and not progress.is_last_batch:
            parameters = pl_module.named_parameters()
            checkpoint["gradients"] = {name: p.grad for name, p in parameters if p.grad is not None}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.training = True
        for name, gradient in self.gathered.items():
            pl_module.get_parameter(name).grad = gradient.to(pl_module.device)
        self.gathered = {}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.training = False

    def _note(self, signum: int, frame: Any) -> None:
        if self.signum is not None or not self.training:
            raise Interrupted(
                signum,
                f"{signal.Signals(signum).name}: stopped; what there is lies in {self.folder}",
            )
        self.signum = signum

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return
        due = self.every_n_batches is not None and batches_seen(trainer) % self.every_n_batches == 0
        self.inside = trainer.should_stop
        if due or self.inside or self.signum is not None:
            self._save(trainer)
        if self.inside:
            again = f"python -m src.train resume={self.folder} trainer.max_time=null"
            log.info("time is up after %d batches; go on with: %s", batches_seen(trainer), again)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.inside:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.folder / "checkpoints" / "last.ckpt")
        if self.signum is not None:
            name = signal.Signals(self.signum).name
            message = (
                f"{name}: stopped after {batches_seen(trainer)} batches; "
                f"go on with: python -m src.train resume={self.folder}"
            )
            log.info(message)
            raise Interrupted(self.signum)
