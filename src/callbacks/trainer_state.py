"""The state of a Trainer, as callbacks need it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor

from src.core.errors import UserError, near
from src.data.image_data import ImageData
from src.data.images import Images, evenly_spaced

T = TypeVar("T")


def datamodule(trainer: pl.Trainer) -> ImageData:
    """Return the data module that `trainer` was given."""
    return cast(Any, trainer).datamodule


def callbacks(trainer: pl.Trainer) -> list[pl.Callback]:
    """Return the callbacks of `trainer`, in the order in which they run."""
    return cast(Any, trainer).callbacks


def probe_part(trainer: pl.Trainer) -> tuple[str, Images]:
    """Return what pictures show, and what it is: "validation images".

    Without validation images these are the test images, without those the training images.
    """
    data = datamodule(trainer)
    if len(data.val):
        return "validation images", data.val
    if len(data.test) and data.test is not data.train:
        return "test images", data.test
    return "training images", data.train


def probe_images(trainer: pl.Trainer, n: int) -> tuple[Tensor, Tensor]:
    """Return n evenly spaced images of `probe_part`, with their labels.

    Returns:
        images (n, C, H, W) in [0, 1] and labels (n,), on the CPU.
    """
    _, part = probe_part(trainer)
    return datamodule(trainer).eval_images(part, evenly_spaced(len(part), n))


def max_over_processes(trainer: pl.Trainer, value: int) -> int:
    """Return the largest `value` of all processes that train one model."""
    if trainer.world_size == 1:
        return value
    values = torch.tensor(value, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX)
    return int(values)


def on_first_process(trainer: pl.Trainer, compute: Callable[[], T]) -> T:
    """Return compute() of the first process; the others wait for it, however long it takes."""
    if trainer.world_size == 1:
        return compute()
    result = [compute() if trainer.is_global_zero else None]
    group: Any = dist.new_group(backend="gloo", timeout=timedelta(days=365))
    dist.broadcast_object_list(result, src=0, group=group)
    dist.destroy_process_group(group)
    return cast(T, result[0])


def monitored(trainer: pl.Trainer, who: str, name: str) -> float:
    """Return the newest value of the metric `name`, which the setting `who`.monitor names."""
    values = trainer.callback_metrics
    if name not in values:
        known = sorted(key for key in values if key.startswith("val/"))
        raise UserError(
            f"{who}.monitor={name} is not logged; the metrics of validation are "
            f"{', '.join(known)}{near(name, known)}"
        )
    return float(values[name])


def expect_validation(trainer: pl.Trainer, who: str, name: str) -> None:
    """Raise UserError if `who` monitors the metric `name`, but there is nothing to validate."""
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    data = datamodule(trainer)
    if not len(data.val) and not hasattr(data, "val_size"):
        why = f"data={data.name} has no validation set"
    elif not len(data.val):
        enough = 1 / max(1, min(10, len(data.train)))
        why = f"data.val_size={data.val_size:g}; set data.val_size={enough:g}, for example"
    elif not trainer.limit_val_batches:
        why = "trainer.limit_val_batches=0; set trainer.limit_val_batches=null"
    elif every and epochs and 0 < epochs < every:
        key = "trainer.check_val_every_n_epoch"
        why = f"{key}={every}; set it to {epochs} (trainer.max_epochs) or less"
    else:
        return
    raise UserError(f"{who} monitors {name}, but there is no validation: {why}")


def is_power_of_two(n: int) -> bool:
    """Return whether `n` is 1, 2, 4, 8 and so on."""
    return n.bit_count() == 1


def is_due(batch: int, every_n_batches: int) -> bool:
    """Return whether to draw after `batch` batches.

    That is every n batches, and before the first of them at the powers of two: early on, a model
    changes fastest.
    """
    is_early = batch < every_n_batches
    return batch % every_n_batches == 0 or (is_early and is_power_of_two(batch))


def is_last_validation(trainer: pl.Trainer) -> bool:
    """Return, at the end of a validation, whether no later epoch of the run has one."""
    after = trainer.current_epoch + 1 + (trainer.check_val_every_n_epoch or 1)
    epochs = trainer.max_epochs
    return trainer.should_stop or (epochs is not None and 0 <= epochs < after)


def is_last_epoch(trainer: pl.Trainer) -> bool:
    """Return, at the end of an epoch, whether it is the run's last.

    Pictures of the finished model are drawn here, before the last checkpoint, so that a run that is
    interrupted after that checkpoint has them.
    """
    return trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
