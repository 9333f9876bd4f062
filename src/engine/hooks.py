"""Make Lightning skip what has nothing to do in a training batch.

Lightning calls every hook of every callback, and enters a profiler around each call, also if the
hook is empty and nothing is profiled. For a small network that takes longer than training.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.profilers import PassThroughProfiler

BATCH_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def skip_empty_hooks(owner: pl.Callback | pl.LightningModule) -> None:
    """Set the hooks of a batch that `owner` does not override to None, which Lightning skips."""
    base = pl.Callback if isinstance(owner, pl.Callback) else pl.LightningModule
    for name in BATCH_HOOKS:
        if getattr(type(owner), name) is getattr(base, name) and name not in vars(owner):
            setattr(owner, name, None)


class NoProfile(PassThroughProfiler):
    """Profile nothing. Lightning's own profiler for this creates a generator for each action."""

    nothing: AbstractContextManager[Any] = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[Any]:  # type: ignore[override]
        return self.nothing
