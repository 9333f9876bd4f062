"""What several callbacks need: where training stands, where pictures go, what a model can show."""

from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from src.core.errors import UserError, near, optional
from src.core.files import write_or_remove
from src.data.base import ImageData, evenly_spaced
from src.viz import grids
from src.viz.grids import Canvases


@runtime_checkable
class CanSample(Protocol):
    """A model that draws images from nothing."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n images (n, C, H, W) in [0, 1]."""


@runtime_checkable
class CanInterpolate(Protocol):
    """A model that walks from one latent to another."""

    def interpolate(self, n: int, steps: int, generator: torch.Generator) -> Tensor:
        """n walks of `steps` images, (n * steps, C, H, W) in [0, 1], a walk after a walk."""


@runtime_checkable
class CanPaint(Protocol):
    """A model whose images grow step by step."""

    def canvases(
        self, n: int, generator: torch.Generator, images: Tensor | None = None
    ) -> Canvases:
        """How n samples grow, or the reconstructions of `images` (n, C, H, W) in [0, 1]."""


@runtime_checkable
class CanSampleClasses(Protocol):
    """A model that draws images of a class, where num_classes says how many there are."""

    num_classes: int | None

    def sample(self, n: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """n images (n, C, H, W) in [0, 1] of `labels` (n,)."""


@runtime_checkable
class CanTranslate(Protocol):
    """A model that makes an image of an image."""

    def translate(self, images: Tensor, to: str = "b") -> Tensor:
        """Images (N, C, H, W) in [0, 1] -> likewise; `to`: into which of two domains, a or b, where there are two."""


@runtime_checkable
class CanCompare(Protocol):
    """A model that shows what it makes beside what it is made of."""

    def compared(self, a: Tensor, b: Tensor) -> Tensor:
        """Rows of k pictures, (n, k, C, H, W) in [0, 1]: images of a set of pairs, (n, C, H, W) likewise, and what is made of
        them."""


@runtime_checkable
class CanClassify(Protocol):
    """A model that says of images (B, C, H, W) in [0, 1] which of `num_classes` they are of; its measuring steps return the
    `logits`, and `counts`, (true, said), are those of the last measure."""

    num_classes: int
    counts: Tensor

    @property
    def measured_net(self) -> nn.Module:
        """Scaled images -> logits (B, num_classes), as it is measured."""

    def scaled(self, x: Tensor) -> Tensor:
        """Images in [0, 1] as the net wants them."""


def data_of(trainer: pl.Trainer) -> ImageData:
    """The data module that `trainer` was given."""
    return cast(Any, trainer).datamodule


def watched(trainer: pl.Trainer, n: int) -> tuple[Tensor, Tensor]:
    """n validation images, where there are none of the test, else of training, evenly spread: (n, C, H, W) in [0, 1] on the
    CPU, with labels."""
    data = data_of(trainer)
    part = next((part for part in (data.val, data.test) if len(part)), data.train)
    return data.eval_images(part, evenly_spaced(len(part), n))


def batches_seen(trainer: pl.Trainer) -> int:
    """Batches finished since the run's start, over all its sessions and however many optimisers step: every x axis."""
    return cast(Any, trainer.fit_loop.epoch_loop.batch_progress.total).processed


def agree(trainer: pl.Trainer, value: int) -> int:
    """Return the largest `value` of all processes that train one model: what one asks for, all do."""
    if trainer.world_size == 1:
        return value
    values = torch.tensor(value, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX)
    return int(values)


def measured(trainer: pl.Trainer, who: str, name: str) -> float:
    """The newest value of the measure `name`, which the setting `who`.monitor asks for."""
    values = trainer.callback_metrics
    if name not in values:
        known = sorted(key for key in values if key.startswith("val/"))
        raise UserError(
            f"{who}.monitor={name} is not measured; there are {', '.join(known)}{near(name, known)}"
        )
    return float(values[name])


def due(batches: int, every: int) -> bool:
    """Each `every` batches, and at the powers of two before the first of them: most happens early."""
    return batches % every == 0 or (batches < every and batches & (batches - 1) == 0)


def finishing(trainer: pl.Trainer) -> bool:
    """Asked at the end of an epoch: is it the run's last? What is drawn then lies before the last checkpoint, so that a run
    cut there has it."""
    return trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs


def board(trainer: pl.Trainer) -> Any | None:
    """TensorBoard's SummaryWriter, None where that logger is off."""
    return next(
        (logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)),
        None,
    )


def show(trainer: pl.Trainer, tag: str, picture: np.ndarray) -> None:
    """Put `picture`, (H, W) or (H, W, 3), on TensorBoard, where that is on."""
    if writer := board(trainer):
        writer.add_image(
            tag, picture, batches_seen(trainer), dataformats="HW" if picture.ndim == 2 else "HWC"
        )


def forget_later(trainer: pl.Trainer, pattern: str) -> None:
    """Remove the images/NAME_BATCHES.png of `pattern` that a cut session drew after the checkpoint it is resumed from."""
    for path in (Path(trainer.default_root_dir) / "images").glob(pattern):
        if int(path.stem.rsplit("_", 1)[1]) > batches_seen(trainer):
            with optional("pictures left out", path.parent):
                path.unlink(missing_ok=True)


def save_picture(trainer: pl.Trainer, name: str, picture: np.ndarray | bytes) -> None:
    """Write `picture`, pixels or a file's bytes, to the run's images/`name`; it is left out where the disk refuses it."""
    folder = Path(trainer.default_root_dir) / "images"
    with optional("pictures left out", folder):
        if isinstance(picture, bytes):
            write_or_remove(folder / name, lambda path: path.write_bytes(picture))
        else:
            grids.save_png(picture, folder / name)
