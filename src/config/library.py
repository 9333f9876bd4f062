"""Types of library settings that people mistype most, so that a wrong value is answered before torch is imported.

A library's own signature says which settings there are. What is not here is checked by the annotation there, and by the class
itself when the object is built.
"""

import re
from typing import Any, Literal, get_type_hints

from src.core.types import (
    AnyLength,
    Duration,
    Fraction,
    NonNegative,
    NonNegativeInt,
    Pair,
    Positive,
    PositiveInt,
    Probability,
    Resumable,
)


class Optimizers:
    """Of every optimizer of torch.optim."""

    lr: Positive
    betas: Pair[Fraction]
    momentum: Probability
    weight_decay: NonNegative


class Trainer:
    """Of pytorch_lightning.Trainer, with what a resumed run may change."""

    accelerator: Resumable[Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]]
    devices: Resumable[Literal["auto", -1] | PositiveInt | AnyLength[NonNegativeInt]]
    num_nodes: Resumable[PositiveInt]
    strategy: Resumable[str]
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    max_epochs: Resumable[PositiveInt]
    max_time: Resumable[Duration | None]
    limit_train_batches: (
        PositiveInt | Probability | None
    )  # a number of batches, or a fraction of them
    limit_val_batches: Resumable[NonNegativeInt | Probability | None]
    limit_test_batches: Resumable[PositiveInt | Probability | None]
    check_val_every_n_epoch: PositiveInt
    num_sanity_val_steps: Resumable[Literal[-1] | NonNegativeInt]
    log_every_n_steps: Resumable[PositiveInt]
    gradient_clip_val: Positive | None
    accumulate_grad_batches: PositiveInt
    deterministic: Resumable[Literal[True, False, "warn"]]
    benchmark: Resumable[bool | None]
    detect_anomaly: Resumable[bool]


TYPES = {
    r"torch\.optim\.\w+": get_type_hints(Optimizers, include_extras=True),
    r"pytorch_lightning\.Trainer": get_type_hints(Trainer, include_extras=True),
}


def type_of(target: str, name: str) -> Any:
    """Return the type of the setting `name` of the library's class `target`; None where it is not listed here."""
    found = (
        types[name]
        for pattern, types in TYPES.items()
        if name in types and re.fullmatch(pattern, target)
    )
    return next(found, None)
