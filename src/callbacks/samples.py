"""What a model makes of one fixed noise, or of the same images, over training: TensorBoard, PNGs, a GIF."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from src.callbacks.images import delete_images_after, log_image, save_image
from src.callbacks.protocols import CanCompare, CanSample, CanSampleClasses
from src.callbacks.trainer_state import is_due, is_last_epoch, probe_images
from src.core.progress import progress
from src.core.randomness import generator
from src.core.types import PositiveInt, Seed
from src.viz import grids


class Samples(pl.Callback):
    """Grids of the same latents as training goes on: images/samples_BATCHES.png, and images/samples.gif at the end.

    Of a conditional model each column is a class; of one that makes images of images each row holds some and what is made of
    them.

    Args:
        every_n_batches: between grids, and at powers of two before the first.
        n: images in a grid; an eighth as many rows.
        seed: of the noise; the callback's own generator, so looking changes nothing.
    """

    def __init__(self, every_n_batches: PositiveInt, n: PositiveInt, seed: Seed) -> None:
        self.every_n_batches, self.n, self.seed = every_n_batches, n, seed

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        delete_images_after(trainer, "samples_*.png")

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if is_due(progress(trainer).batch, self.every_n_batches):
            self._draw(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not is_last_epoch(trainer):
            return
        self._draw(trainer, pl_module)
        if trainer.is_global_zero and (frames := self._frames(trainer)):
            save_image(trainer, "samples.gif", grids.gif(frames))

    @torch.no_grad()
    def _draw(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        columns = None
        if isinstance(model, CanSample):
            images = model.sample(self.n, generator(self.seed, "samples"))
            columns = (
                model.num_classes if isinstance(model, CanSampleClasses) else None
            )  # a class a column
        elif isinstance(model, CanCompare):
            a, b = probe_images(trainer, max(1, self.n // 8))
            rows = model.compared(a, b)
            images, columns = rows.flatten(0, 1), rows.shape[1]
        else:
            return
        picture = grids.grid(images, columns, scale=2 if images.shape[-1] <= 64 else 1)
        save_image(trainer, f"samples_{progress(trainer).batch:08d}.png", picture)
        log_image(trainer, "samples", grids.grid(images, columns))

    def _frames(self, trainer: pl.Trainer) -> list[Path]:
        return sorted((Path(trainer.default_root_dir) / "images").glob("samples_*.png"))
