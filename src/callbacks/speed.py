"""Images per second, learning rates, peak memory."""

import resource
import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from src.callbacks.common import batches_seen


def image_count(batch: Any) -> int:
    """Images in a batch (images, labels)."""
    return len(batch[0])


class Speed(pl.Callback):
    """Log train/images_per_second over each logging interval, train/lr of each optimiser; keep the whole fit's mean.

    Validation is left out of the clock; pictures, checkpoints and logging are in it.
    """

    def __init__(self) -> None:
        self.images = 0
        self.seconds = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.mark, self.since = time.perf_counter(), 0

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._tick()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.mark = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.since += image_count(batch) * trainer.world_size
        if batches_seen(trainer) % trainer.log_every_n_steps:
            return
        values: dict[str, float | Tensor] = {"train/images_per_second": self._tick()}
        names = getattr(pl_module, "optimizer_names", ("lr",))
        for name, optimizer in zip(names, trainer.optimizers, strict=True):
            values[f"train/{name}"] = optimizer.param_groups[0]["lr"]
        pl_module.log_dict(values, on_step=True, on_epoch=False)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._tick()

    def _tick(self) -> float:
        """Close the interval that began at the last tick; images a second in it."""
        now = time.perf_counter()
        elapsed, images = now - self.mark, self.since
        self.mark, self.since = now, 0
        self.seconds, self.images = self.seconds + elapsed, self.images + images
        return images / elapsed

    def summary(self) -> dict[str, float]:
        """`images_per_second` of this session's training and `peak_memory_mb` (of the GPU where there is one)."""
        unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB on Linux
        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else host
        rate = self.images / self.seconds if self.seconds else 0.0
        return {"images_per_second": rate, "peak_memory_mb": peak / 2**20}
