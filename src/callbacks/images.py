"""Write pictures to the run's images/ and to the loggers that show pictures."""

import math
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from src.core.errors import optional
from src.core.files import write_or_remove
from src.core.progress import progress
from src.viz import grids

FRAME = "[0-9]" * 8 + ".png"  # glob for the end of images/NAME_BATCHES.png


def summary_writer(trainer: pl.Trainer) -> Any | None:
    """Return TensorBoard's SummaryWriter, or None if that logger is off."""
    return next(
        (logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)),
        None,
    )


def progress_caption(trainer: pl.Trainer) -> str:
    """Return what a picture says about when it was drawn: `after 1,200 batches (epoch 3)`."""
    batch, per_epoch = progress(trainer).batch, trainer.num_training_batches
    said = f"after {batch:,} {'batch' if batch == 1 else 'batches'}"
    known = batch and 0 < per_epoch < math.inf  # not while a finished run is evaluated
    return f"{said} (epoch {math.ceil(batch / per_epoch)})" if known else said


@runtime_checkable
class ShowsImages(Protocol):
    """A logger that shows pictures: TensorBoard, MLflow, or Lightning's WandbLogger."""

    def log_image(self, key: str, images: list[np.ndarray], step: int | None = None) -> None:
        """Show uint8 pictures, (H, W) or (H, W, 3), as `key` after `step` batches."""


def log_image(trainer: pl.Trainer, tag: str, image: np.ndarray) -> None:
    """Send `image`, uint8 (H, W) or (H, W, 3), to the loggers that show pictures."""
    for logger in trainer.loggers:
        if isinstance(logger, ShowsImages):
            logger.log_image(tag, [image], progress(trainer).batch)


def save_image(trainer: pl.Trainer, name: str, image: np.ndarray | bytes) -> None:
    """Write `image`, uint8 pixels or the bytes of a file, to the run's images/`name`.

    If it cannot be written, the image is left out and training continues.
    """
    folder = Path(trainer.default_root_dir) / "images"
    with optional("could not write the pictures", folder):
        if isinstance(image, bytes):
            write_or_remove(folder / name, lambda path: path.write_bytes(image))
        else:
            grids.save_png(image, folder / name)


def save_series_gif(trainer: pl.Trainer, name: str) -> None:
    """Write images/NAME.gif of all images/NAME_BATCHES.png, if there are any."""
    frames = sorted((Path(trainer.default_root_dir) / "images").glob(f"{name}_{FRAME}"))
    if trainer.is_global_zero and frames and (picture := grids.gif(frames)):
        save_image(trainer, f"{name}.gif", picture)


def delete_images_after(trainer: pl.Trainer, name: str) -> None:
    """Delete images/NAME_BATCHES.png that an interrupted session drew after its last checkpoint.

    Args:
        name: NAME; may be a glob.
    """
    for path in (Path(trainer.default_root_dir) / "images").glob(f"{name}_{FRAME}"):
        if int(path.stem.rpartition("_")[2]) > progress(trainer).batch:
            with optional("could not delete old pictures", path.parent):
                path.unlink(missing_ok=True)
