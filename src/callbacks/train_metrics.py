"""Numbers of a run: losses, learning rates, images per second, time, memory, and image counts."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch

from src.callbacks.trainer_state import callbacks
from src.core.memory import peak_resident_mb
from src.core.progress import is_logging_step, progress
from src.metrics.precision import measure_in_float32


def image_count(batch: Any) -> int:
    """Return the number of images in a batch, or in the larger of two domains."""
    return max(len(part) for part in batch[:2])


class TrainMetrics(pl.Callback):
    """Log each scalar that training_step returns as train/NAME.

    This happens every trainer.log_every_n_steps batches, together with train/images_per_second and
    the learning rates, which have the names in the model's `optimizer_names`. The values go
    directly to the loggers. Lightning's `self.log` would take a quarter of a millisecond per value,
    and would pass them on only after the checkpoint of the batch, so a resumed run would miss them.

    The images per second exclude validation, and include pictures, checkpoints and logging.
    Validation and test run in float32 (see `src.metrics.precision`), are timed, and their images
    are counted. Times and image counts of training are saved in checkpoints, so that a resumed run
    reports those of all its sessions.

    Attributes:
        images, seconds: of training, until the last time that images per second were computed.
        images_since, mark: images after that time, and that time.
        began: when training, validation and test last began.
        counts: `val/n` and `test/n`, the numbers of images (see
            `src.callbacks.final_metrics.Basis`).
        spent: seconds by `train`, `val` and `test`.
        earlier: seconds of these in earlier sessions.
    """

    def __init__(self) -> None:
        self.images, self.images_since = 0, 0
        self.seconds, self.mark = 0.0, 0.0
        self.counts: dict[str, int] = {}
        self.based_on: dict[str, str] = {}
        self.spent = {"train": 0.0, "val": 0.0, "test": 0.0}
        self.began = dict(self.spent)
        self.earlier = 0.0

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        now = time.perf_counter()
        training = self.spent["train"] + now - self.began["train"]
        checkpoint["train_metrics"] = {
            "spent": self.spent | {"train": training},
            "images": self.images + self.images_since,
            "seconds": self.seconds + now - self.mark,
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        saved = checkpoint["train_metrics"]
        self.spent, self.images, self.seconds = saved["spent"], saved["images"], saved["seconds"]
        self.earlier = sum(self.spent.values())

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        measure_in_float32(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.mark, self.images_since = time.perf_counter(), 0

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._tick()
            self._stop("train")
        self._start("val")
        self.counts["val/n"] = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop("val")
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.mark = time.perf_counter()
            self._start("train")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start("test")
        self.counts["test/n"] = 0

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop("test")

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *args: Any
    ) -> None:
        self.counts["val/n"] += image_count(batch)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *args: Any
    ) -> None:
        self.counts["test/n"] += image_count(batch)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._sum(trainer, "val/n")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._sum(trainer, "test/n")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.mark = time.perf_counter()  # a run resumed inside an epoch starts none
        self._start("train")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop("train")

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.images_since += image_count(batch) * trainer.world_size
        if not is_logging_step(trainer, progress(trainer).batch):
            return
        values = {f"train/{name}": float(value) for name, value in (outputs or {}).items()}
        values["train/images_per_second"] = self._tick()
        for name, optimizer in zip(
            getattr(pl_module, "optimizer_names", ("lr",)), trainer.optimizers, strict=True
        ):
            values[f"train/{name}"] = optimizer.param_groups[0]["lr"]
        for logger in trainer.loggers:  # Lightning counts from 0, see `loggers.batches_at`
            logger.log_metrics(values, step=progress(trainer).batch - 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._tick()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the block out of the times of training, so that it counts as setup."""
        self._stop("train")
        yield
        self.mark = time.perf_counter()
        self._start("train")

    def _start(self, phase: str) -> None:
        self.began[phase] = time.perf_counter()

    def _stop(self, phase: str) -> None:
        self.spent[phase] += time.perf_counter() - self.began[phase]

    def _sum(self, trainer: pl.Trainer, name: str) -> None:
        """Replace the count `name` by its sum over all processes."""
        counted = torch.tensor(self.counts[name], device=trainer.strategy.root_device)
        self.counts[name] = int(trainer.strategy.reduce(counted, reduce_op="sum"))

    def _tick(self) -> float:
        """End the interval since the last tick; return its images per second."""
        now = time.perf_counter()
        elapsed, images = now - self.mark, self.images_since
        self.mark, self.images_since = now, 0
        self.seconds, self.images = self.seconds + elapsed, self.images + images
        return images / elapsed

    def times(self, elapsed: float) -> dict[str, float]:
        """Return the seconds of training, validation, test and the rest, and images per second.

        The keys are `train_seconds`, `val_seconds`, `test_seconds`, `setup_seconds` (the rest of
        the `elapsed` seconds of this session), their sum `seconds`, and `images_per_second` of
        training.
        """
        setup = elapsed - (sum(self.spent.values()) - self.earlier)
        seconds = {**self.spent, "setup": setup}
        return {
            **({"images_per_second": self.images / self.seconds} if self.images else {}),
            **{f"{phase}_seconds": value for phase, value in seconds.items()},
            "seconds": sum(seconds.values()),
        }


def excluded_from_training_time(trainer: pl.Trainer) -> AbstractContextManager[None]:
    """Return a context whose time does not count as training."""
    timers = [callback for callback in callbacks(trainer) if isinstance(callback, TrainMetrics)]
    return timers[0].paused() if timers else nullcontext()


def peak_memory_mb() -> float:
    """Return the peak memory of this process in MiB; of the GPU if it has used one."""
    if torch.cuda.is_available() and (peak := torch.cuda.max_memory_allocated()):
        return peak / 2**20
    return peak_resident_mb()
