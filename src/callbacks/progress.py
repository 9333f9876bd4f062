"""Progress of training, validation and test: a bar on a terminal, lines elsewhere."""

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

    Validation and test have a bar of their own, which disappears at their end, or lines.

    Args:
        every_n_seconds: between lines. On a terminal, a bar is drawn at most five times a second.
    """

    def __init__(self, every_n_seconds: Positive = 10) -> None:
        self.every_n_seconds = every_n_seconds
        self.bar: tqdm | None = None
        self.stage_bar: tqdm | None = None
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
            log.info(
                "epoch %d/%s batch %d/%d: %s",
                trainer.current_epoch + 1,
                trainer.max_epochs,
                batch_idx + 1,
                int(trainer.num_training_batches),
                self._values(outputs),
            )

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_stage(trainer, sum(map(int, trainer.num_val_batches)))

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_stage(trainer, sum(map(int, trainer.num_test_batches)))

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        self._advance_stage(trainer)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        self._advance_stage(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close_stage()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close_stage()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the bars. That of training stays on the terminal."""
        self._close_stage()
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _start_stage(self, trainer: pl.Trainer, batches: int) -> None:
        self._close_stage()
        self.stage_batches, self.stage_batch = batches, 0
        self.next_stage_line = time.perf_counter() + self.every_n_seconds
        if trainer.is_global_zero and sys.stderr.isatty():
            self.stage_bar = tqdm(
                total=batches,
                desc=_stage(trainer),
                unit="batch",
                dynamic_ncols=True,
                mininterval=0.2,
                leave=False,
            )

    def _advance_stage(self, trainer: pl.Trainer) -> None:
        self.stage_batch += 1
        if self.stage_bar is not None:
            self.stage_bar.update()
        elif trainer.is_global_zero and time.perf_counter() >= self.next_stage_line:
            self.next_stage_line = time.perf_counter() + self.every_n_seconds
            log.info("%s batch %d/%d", _stage(trainer), self.stage_batch, self.stage_batches)

    def _close_stage(self) -> None:
        if self.stage_bar is not None:
            self.stage_bar.close()
            self.stage_bar = None

    def _values(self, outputs: Any) -> str:
        losses = {
            name: float(value) for name, value in (outputs or {}).items() if name.endswith("loss")
        }
        rate = self.images / (time.perf_counter() - self.start)
        return ", ".join(
            [*(f"{name} {value:.3f}" for name, value in losses.items()), format_rate(rate)]
        )


def format_rate(images_per_second: float) -> str:
    """Return a rate with two digits or more: `0.31 images/s`, `1,234 images/s`."""
    n = images_per_second
    return f"{n:,.0f} images/s" if n >= 10 else f"{n:.2g} images/s"


def format_seconds(seconds: float) -> str:
    """Return a duration with three digits or more: `0.314`, `3,600`."""
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.3g}"


def _stage(trainer: pl.Trainer) -> str:
    return "test" if trainer.testing else "validation"
