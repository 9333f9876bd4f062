"""Fuse the operations of a model's networks with torch.compile: the setting `model.compile`."""

import logging
from typing import Any

import pytorch_lightning as pl
import torch

from src.callbacks.protocols import CanCompile
from src.core.progress import progress

log = logging.getLogger(__name__)


class Compile(pl.Callback):
    """Compile the networks that a model names, for its training steps only.

    Outside of these the networks run uncompiled: validation, test and pictures have other batch
    sizes, and compiling for each would cost more time than it saves. With model.compile=auto, the
    number of batches of the whole run decides, so that a resumed run does what one that was never
    interrupted does. A model may compile its validation itself, as DRAW does on a CPU.
    """

    def __init__(self) -> None:
        self.is_decided = self.is_compiled = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self.is_decided and isinstance(pl_module, CanCompile):
            self.is_compiled = self._decide(pl_module, progress(trainer).total)
            if self.is_compiled:
                pl_module.compile_networks()
        self.is_decided = True
        if self.is_compiled:
            torch.compiler.set_stance("default")

    def on_train_batch_end(self, *args: Any) -> None:
        if self.is_compiled:
            torch.compiler.set_stance("force_eager")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.is_compiled:  # the test after training
            torch.compiler.set_stance("force_eager")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.is_compiled:
            torch.compiler.set_stance("default")

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.teardown(trainer, pl_module, "fit")

    def _decide(self, model: CanCompile, batches: float) -> bool:
        decision, break_even = model.should_compile(batches), model.compile_break_even()
        if model.compile_setting == "auto" and break_even is None:
            log.info("model.compile=auto: not compiled, since that would not speed up this model")
        elif model.compile_setting == "auto":
            log.info(
                "model.compile=auto: %s, because the run has %s batches, and compiling breaks even "
                "after about %s",
                "compiled" if decision else "not compiled",
                f"{batches:,.0f}",
                f"{break_even:,}",
            )
        return decision
