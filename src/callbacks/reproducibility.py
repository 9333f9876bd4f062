"""Set random seeds and learning rates at every batch, so that a run is a function of its config."""

import copy
from collections.abc import Callable
from typing import Any, cast

import pytorch_lightning as pl
import torch

from src.callbacks.trainer_state import expect_validation, monitored
from src.core.progress import progress
from src.core.randomness import derive_seed
from src.optim.schedules import Plateau, unwrap_partial


class Reproducibility(pl.Callback):
    """Seed the global generator by (seed, stage, epoch, batch, rank), and set the learning rates.

    So no random state has to be saved. Only the schedule `Plateau` has a state, which is in the
    checkpoint. A run that is interrupted anywhere continues as if it had not been.

    Args:
        seed: seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.schedule: Callable[[float], float] | None = None
        self.plateau: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return copy.deepcopy(self.plateau)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.plateau = copy.deepcopy(state_dict)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        schedule = self.schedule = unwrap_partial(getattr(pl_module, "schedule", None))
        if isinstance(schedule, Plateau):
            schedule.monitor = schedule.monitor or cast(Any, pl_module).monitor
            expect_validation(trainer, "model/schedule=plateau", schedule.monitor)
            schedule.state |= self.plateau
            self.plateau = schedule.state

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._seed(trainer, "train", batch_idx)
        if self.schedule is None:
            return
        factor = self.schedule(progress(trainer).fraction)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._seed(trainer, "val", batch_idx)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if isinstance(self.schedule, Plateau) and trainer.state.fn == "fit":
            self.schedule.observe(monitored(trainer, "model.schedule", str(self.schedule.monitor)))

    def on_test_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._seed(trainer, "test", batch_idx)

    def _seed(self, trainer: pl.Trainer, stage: str, batch_idx: int) -> None:
        # the same noise at every validation, so that the values can be compared
        epoch = trainer.current_epoch if stage == "train" else 0
        seed = derive_seed(self.seed, stage, epoch, batch_idx, trainer.global_rank)
        # torch.manual_seed would also seed every kind of accelerator, which takes a millisecond
        torch.default_generator.manual_seed(seed)
        device = trainer.strategy.root_device.type
        if device != "cpu":
            getattr(torch, device).manual_seed(seed)
