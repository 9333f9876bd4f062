"""Pictures of a model, drawn at intervals while it trains."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from src.callbacks.images import (
    delete_images_after,
    log_image,
    progress_caption,
    save_image,
    save_series_gif,
)
from src.callbacks.trainer_state import is_due, is_last_epoch, probe_part
from src.core.progress import progress
from src.core.types import PositiveInt, Seed
from src.viz import grids
from src.viz.captions import add_title


class ImageSeries(pl.Callback):
    """Base of callbacks that draw one picture at intervals; a subclass overrides `name` and `draw`.

    The pictures go to TensorBoard, to images/NAME_BATCHES.png and, at the end, to images/NAME.gif.

    Args:
        every_n_batches: interval. Pictures are also drawn at powers of two before the first
            interval ends, and at the end of training.
        n: number of images in a picture.
        seed: seed of the callback's generator, so that drawing does not change training.

    Attributes:
        name: name of the picture.
        title: what it shows, in words above it; the number of batches follows in the next line.
            "{images}" stands for "validation images", or those that are shown in their place.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, every_n_batches: PositiveInt, n: PositiveInt, seed: Seed) -> None:
        self.every_n_batches, self.n, self.seed = every_n_batches, n, seed

    @abstractmethod
    def draw(self, trainer: pl.Trainer, model: Any) -> np.ndarray | None:
        """Return the picture, uint8 (H, W) or (H, W, 3), or None if the model cannot show it."""

    def headers(self, trainer: pl.Trainer, model: Any) -> Sequence[str]:
        """Return titles of the columns of the picture; by default there are none."""
        return ()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        delete_images_after(trainer, self.name)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if is_due(progress(trainer).batch, self.every_n_batches):
            self._save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not is_last_epoch(trainer):
            return
        self._save(trainer, pl_module)
        save_series_gif(trainer, self.name)

    @torch.no_grad()
    def _save(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        if not trainer.is_global_zero or (picture := self.draw(trainer, model)) is None:
            return
        title = f"{self.title.format(images=probe_part(trainer)[0])}\n{progress_caption(trainer)}"
        picture = add_title(picture, title, self.headers(trainer, model))
        save_image(trainer, f"{self.name}_{progress(trainer).batch:08d}.png", picture)
        log_image(trainer, self.name, picture)


def image_grid(images: Tensor, columns: int | None = None) -> np.ndarray:
    """Return images (N, C, H, W) in [0, 1] as a grid; small ones are drawn at twice their size."""
    return grids.grid(images, columns, scale=2 if images.shape[-1] <= 64 else 1)
