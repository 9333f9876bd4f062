"""Types of the library settings that people mistype most: stricter than the library's own.

The library's signature says which settings exist. A setting that is not listed here is checked by
its annotation in the library, and by the class itself when the object is built.
"""

import re
from typing import Annotated, Any, Literal, get_type_hints

from src.core.types import (
    Advice,
    AnyLength,
    Counted,
    Duration,
    Fraction,
    NonNegative,
    NonNegativeInt,
    Pair,
    Positive,
    PositiveInt,
    Probability,
    Resumable,
    Share,
)

BY_EPOCHS = Advice("set trainer.max_epochs or trainer.max_time")


class Optimizers:
    """Settings of the optimizers in torch.optim."""

    lr: Positive
    betas: Pair[Fraction]
    momentum: Probability
    weight_decay: NonNegative


class Trainer:
    """Settings of pytorch_lightning.Trainer; `Resumable` ones may change when a run is resumed."""

    accelerator: Resumable[Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]]
    devices: Resumable[Literal["auto", -1] | PositiveInt | AnyLength[NonNegativeInt]]
    num_nodes: Resumable[PositiveInt]
    strategy: Resumable[str]
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    max_epochs: Resumable[PositiveInt]
    max_time: Resumable[Duration | None]
    # limits are a number of batches, or a share of them
    limit_train_batches: PositiveInt | Share | None
    limit_val_batches: Resumable[NonNegativeInt | Probability | None]
    limit_test_batches: Resumable[PositiveInt | Share | None]
    check_val_every_n_epoch: PositiveInt
    num_sanity_val_steps: Resumable[Literal[-1] | NonNegativeInt]
    log_every_n_steps: Resumable[PositiveInt]
    gradient_clip_val: Positive | None
    accumulate_grad_batches: PositiveInt
    deterministic: Resumable[Literal[True, False, "warn"]]
    benchmark: Resumable[bool | None]
    detect_anomaly: Resumable[bool]
    # not supported: checkpoints, the order of the data and pictures go by whole epochs
    max_steps: Annotated[Literal[-1], BY_EPOCHS]
    min_steps: Annotated[None, BY_EPOCHS]
    min_epochs: Annotated[None, BY_EPOCHS]
    val_check_interval: Annotated[None, Advice("set trainer.check_val_every_n_epoch")]
    overfit_batches: Annotated[Literal[0], Advice("set data.train_size to learn a few images")]
    fast_dev_run: Annotated[Literal[False], Advice("trainer=debug is a short run")]


class Networks:
    """Settings of the networks in torchvision.models."""

    num_classes: Counted


TYPES = {
    r"torchvision\.models\.\w+": get_type_hints(Networks, include_extras=True),
    r"torch\.optim\.\w+": get_type_hints(Optimizers, include_extras=True),
    r"pytorch_lightning\.Trainer": get_type_hints(Trainer, include_extras=True),
}


def type_of(target: str, name: str) -> Any:
    """Return the type of the setting `name` of a library's class; None if it is not listed."""
    found = (
        types[name]
        for pattern, types in TYPES.items()
        if name in types and re.fullmatch(pattern, target)
    )
    return next(found, None)
