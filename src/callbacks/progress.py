"""Progress of training: a bar on a terminal, lines elsewhere."""

import logging
import sys
import time
from typing import Any

import pytorch_lightning as pl
from tqdm import tqdm

from src.callbacks.train_metrics import image_count
from src.core.progress import progress
from src.core.types import Positive

log = logging.getLogger(__name__)


class Progress(pl.Callback):
    """Show epoch, batch, images per second and what training_step returned.

    Args:
        every_n_seconds: between lines. On a terminal, the bar is drawn at most five times a second.
    """

    def __init__(self, every_n_seconds: Positive = 10) -> None:
        self.every_n_seconds = every_n_seconds
        self.bar: tqdm | None = None
        self.next_line = 0.0
        self.images = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.start, self.images = time.perf_counter(), 0
        self.next_line = self.start + self.every_n_seconds
        if trainer.is_global_zero and sys.stderr.isatty():
            _, done, total = progress(trainer)
            self.bar = tqdm(
                total=total,
                initial=done,
                unit="batch",
                dynamic_ncols=True,
                mininterval=0.2,
            )

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.images += image_count(batch) * trainer.world_size
        if self.bar is not None:
            if self.bar.update():
                self.bar.set_description(
                    f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", refresh=False
                )
                self.bar.set_postfix_str(self._values(outputs), refresh=False)
        elif trainer.is_global_zero and time.perf_counter() >= self.next_line:
            self.next_line = time.perf_counter() + self.every_n_seconds
            batches = f"batch {batch_idx + 1}/{int(trainer.num_training_batches)}"
            log.info(
                "epoch %d/%s %s: %s",
                trainer.current_epoch + 1,
                trainer.max_epochs,
                batches,
                self._values(outputs),
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the bar, which stays on the terminal."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _values(self, outputs: Any) -> str:
        losses = {
            name: float(value) for name, value in (outputs or {}).items() if name.endswith("loss")
        }
        rate = self.images / (time.perf_counter() - self.start)
        return ", ".join(
            [*(f"{name} {value:.3f}" for name, value in losses.items()), f"{rate:,.0f} images/s"]
        )
