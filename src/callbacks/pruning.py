"""End the trial of a sweep early, if others were better at the same point."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from torch import Tensor

from src.callbacks.trainer_state import max_over_processes
from src.core.counts import count
from src.core.progress import progress

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

log = logging.getLogger(__name__)


class Pruning(pl.Callback):
    """Report the objective after each validation, and stop if the pruner says so.

    A step of the pruner is an epoch, so that runs of different batch sizes can be compared.

    Values go through the storage of the study, so this works in any process on any machine. A
    resumed run reports values that it has reported before again; they are equal, and are left out.
    `src.sweep.search` adds this callback to the jobs of a search.

    Args:
        storage: URL of the study's database; None: the journal in `sweep`.
        sweep: folder of the sweep.
        study_name: its name in the storage.
        trial_id: the id of the trial in the storage.
        monitor: name of the metric. A validation without it reports nothing.
        pruner: builds the pruner.

    Attributes:
        pruned: whether the pruner has ended the run.
    """

    def __init__(
        self,
        storage: str | None,
        sweep: str,
        study_name: str,
        trial_id: int,
        monitor: str,
        pruner: Callable[..., BasePruner],
    ) -> None:
        self.storage, self.sweep, self.study_name = storage, sweep, study_name
        self.trial_id, self.monitor, self.pruner = trial_id, monitor, pruner
        self.study: Any = None
        self.database: Any = None
        self.before: Tensor | None = None  # value of the metric before this validation
        self.pruned = False

    def state_dict(self) -> dict[str, Any]:
        return {"pruned": self.pruned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.pruned = state_dict["pruned"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop |= self.pruned

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.before = trainer.callback_metrics.get(self.monitor)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        ended = False
        value = trainer.callback_metrics.get(self.monitor)
        # Lightning keeps the value of an earlier validation until there is another
        if trainer.is_global_zero and value is not None and value is not self.before:
            ended = self._is_worse(float(value), trainer.current_epoch + 1)
        if max_over_processes(trainer, int(ended)):
            self.pruned = trainer.should_stop = True
            log.info(
                "pruned after %s: other trials had a better %s by then",
                count(progress(trainer).batch, "batch"),
                self.monitor,
            )

    def _is_worse(self, value: float, epoch: int) -> bool:
        """Report `value` after `epoch` epochs; return whether the pruner ends the trial."""
        import optuna

        from src.core.study import open_storage

        if self.study is None:
            self.database = open_storage(self.storage, Path(self.sweep))
            self.study = optuna.load_study(
                storage=self.database, study_name=self.study_name, pruner=self.pruner()
            )
        if epoch not in self.database.get_trial(self.trial_id).intermediate_values:
            self.database.set_trial_intermediate_value(self.trial_id, epoch, value)
        trial = self.database.get_trial(self.trial_id)
        return bool(self.study.pruner.prune(self.study, trial))


def is_pruned(trainer: pl.Trainer) -> bool:
    """Return whether a sweep has ended this run early."""
    callbacks: list[Any] = getattr(trainer, "callbacks", [])
    return any(isinstance(callback, Pruning) and callback.pruned for callback in callbacks)
