"""Write pictures to the run's images/ and to TensorBoard."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from src.core.errors import optional
from src.core.files import write_or_remove
from src.core.progress import progress
from src.viz import grids


def summary_writer(trainer: pl.Trainer) -> Any | None:
    """Return TensorBoard's SummaryWriter, or None if that logger is off."""
    return next(
        (logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)),
        None,
    )


def log_image(trainer: pl.Trainer, tag: str, image: np.ndarray) -> None:
    """Send `image`, uint8 (H, W) or (H, W, 3), to TensorBoard if that logger is on."""
    if writer := summary_writer(trainer):
        dataformats = "HW" if image.ndim == 2 else "HWC"
        writer.add_image(tag, image, progress(trainer).batch, dataformats=dataformats)


def save_image(trainer: pl.Trainer, name: str, image: np.ndarray | bytes) -> None:
    """Write `image`, uint8 pixels or the bytes of a file, to the run's images/`name`.

    If it cannot be written, the image is left out and training continues.
    """
    folder = Path(trainer.default_root_dir) / "images"
    with optional("pictures left out", folder):
        if isinstance(image, bytes):
            write_or_remove(folder / name, lambda path: path.write_bytes(image))
        else:
            grids.save_png(image, folder / name)


def save_series_gif(trainer: pl.Trainer, name: str) -> None:
    """Write images/NAME.gif of all images/NAME_BATCHES.png, if there are any."""
    frames = sorted((Path(trainer.default_root_dir) / "images").glob(f"{name}_*.png"))
    if trainer.is_global_zero and frames:
        save_image(trainer, f"{name}.gif", grids.gif(frames))


def delete_images_after(trainer: pl.Trainer, pattern: str) -> None:
    """Delete the images that an interrupted session drew after its last checkpoint.

    Args:
        pattern: glob of images/NAME_BATCHES.png; those of later batches are deleted.
    """
    for path in (Path(trainer.default_root_dir) / "images").glob(pattern):
        if int(path.stem.rsplit("_", 1)[1]) > progress(trainer).batch:
            with optional("pictures left out", path.parent):
                path.unlink(missing_ok=True)
