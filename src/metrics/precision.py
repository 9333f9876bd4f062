"""Metrics are computed in float32 or better, whatever the precision of training."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


@contextlib.contextmanager
def float32(device: torch.device) -> Iterator[None]:
    """Compute in float32 on `device`: without autocast, and without TF32 on an NVIDIA GPU."""
    kinds: list[Any] = [torch.backends.cudnn, torch.backends.cuda.matmul]
    kinds = kinds if device.type == "cuda" else []
    before = [kind.allow_tf32 for kind in kinds]
    try:
        for kind in kinds:
            kind.allow_tf32 = False
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for kind, allowed in zip(kinds, before, strict=True):
            kind.allow_tf32 = allowed


def measure_in_float32(trainer: Any) -> None:
    """Run validation, test and prediction steps of `trainer` in `float32`.

    Lightning would run them in the precision of training.
    """
    device = trainer.strategy.root_device
    for stage in ("val", "test", "predict"):
        setattr(trainer.precision_plugin, f"{stage}_step_context", lambda: float32(device))


def float64(x: Tensor) -> Tensor:
    """Return `x` in float64, which autocast does not change.

    Apple's GPUs lack float64, so their tensors move to the CPU.
    """
    return (x.cpu() if x.device.type == "mps" else x).double()
