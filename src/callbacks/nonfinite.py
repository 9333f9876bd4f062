"""Stop a training that has diverged."""

import logging
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from src.callbacks.trainer_state import max_over_processes
from src.core.errors import TrainingFailed, optional
from src.core.files import write_atomically
from src.core.progress import is_logging_step, progress
from src.optim.clipping import grad_norm

log = logging.getLogger(__name__)


class NonFinite(pl.Callback):
    """Stop at the first loss, gradient or weight that is NaN or infinite, before it is saved.

    A loss is checked at every batch on a CPU. On an accelerator, where reading a value waits for
    the device, it is checked at logging steps. Gradients are checked at logging steps: in between,
    a bad one shows in the next batch's loss. Weights are checked before each checkpoint. So every
    checkpoint is finite.

    The batch and the one before it are saved as folder/nonfinite_batch.pt.

    Args:
        folder: the run's folder.
        on_nonfinite: `stop`, or `warn`: log it once and continue.

    Raises:
        TrainingFailed: names what is not finite, the batch and the epoch.
    """

    def __init__(self, folder: Path, on_nonfinite: str) -> None:
        self.folder, self.warn_only = folder, on_nonfinite == "warn"
        self.recent: list[Any] = []  # this batch and the one before it
        self.batch_number = 0  # counted from 1
        self.is_logging_step = False
        self.found = ""  # in this batch
        self.warned = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.recent = [*self.recent[-1:], batch]
        self.batch_number = progress(trainer).batch + 1
        self.is_logging_step = is_logging_step(trainer, self.batch_number)

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        if self.is_logging_step or loss.device.type == "cpu":
            self._check(trainer, pl_module, "the loss", loss.detach())

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        # a GradScaler skips steps whose gradients are infinite
        if self.is_logging_step and getattr(trainer.precision_plugin, "scaler", None) is None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            self._check(trainer, pl_module, "the gradient norm", grad_norm(parameters))

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        # on a GPU, values are only checked in logged batches, so the others find nothing
        may_find = self.is_logging_step or pl_module.device.type == "cpu"
        several = may_find and trainer.world_size > 1
        if several and max_over_processes(trainer, int(bool(self.found))):
            self._fail(trainer, pl_module, self.found or "a value on another process is not finite")
        self.found = ""

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        weights = {k: v for k, v in checkpoint["state_dict"].items() if v.is_floating_point()}
        finite = torch.stack([value.isfinite().all() for value in weights.values()]).tolist()
        if not all(finite) and not self.warn_only:
            name = list(weights)[finite.index(False)]
            self._fail(trainer, pl_module, f"{name} is not finite")

    def _check(
        self, trainer: pl.Trainer, model: pl.LightningModule, name: str, value: Tensor
    ) -> None:
        if self.warned or math.isfinite(number := float(value)):
            return
        if self.warn_only:
            self.warned = True
            where = self._where(trainer, model)
            log.warning("%s: %s is %s; training continues (on_nonfinite=warn)", where, name, number)
            return
        self.found = f"{name} is {number}"
        if trainer.world_size == 1:  # several processes must stop at the same batch
            self._fail(trainer, model, self.found)

    def _where(self, trainer: pl.Trainer, model: pl.LightningModule) -> str:
        epoch = trainer.current_epoch + 1
        return f"{type(model).__name__}, batch {self.batch_number} (epoch {epoch})"

    def _fail(self, trainer: pl.Trainer, model: pl.LightningModule, found: str) -> None:
        path = self.folder / "nonfinite_batch.pt"
        if trainer.is_global_zero:
            values = {"found": found, "batch": self.batch_number, "batches": self.recent}
            with optional("the batch is not saved", self.folder):
                write_atomically(path, lambda temporary: torch.save(values, temporary))
        raise TrainingFailed(
            f"{self._where(trainer, model)}: {found}, so training stopped before it was saved. "
            f"The batch and the one before it are in {path}. Try a smaller learning rate; "
            "to continue anyway: on_nonfinite=warn"
        )
