"""Training that ends when nothing gets better any more."""

import logging
from typing import Any, Literal

import pytorch_lightning as pl

from src.callbacks.trainer_state import callbacks, datamodule, monitored
from src.core.errors import UserError
from src.core.types import NonNegative, NonNegativeInt

log = logging.getLogger(__name__)


class EarlyStopping(pl.callbacks.EarlyStopping):
    """Lightning's, with a line for a measure that is not there, and exact: a run cut when it had
    just stopped stays so.

    A run that it ended goes on where a resumed session brings a larger patience, or leaves this
    callback out.

    Args:
        monitor: the measure's name, `val/loss` say.
        mode: is `min` or `max` better?
        patience: validations without improvement to wait before stopping.
        min_delta: what is better by no more than this is not.
    """

    def __init__(
        self,
        monitor: str,
        mode: Literal["min", "max"],
        patience: NonNegativeInt,
        min_delta: NonNegative,
    ) -> None:
        # a value that is not finite is one without improvement: it must not end a run that could go
        # on
        super().__init__(
            monitor,
            min_delta,
            patience,
            mode=mode,
            check_finite=False,
            check_on_train_epoch_end=False,
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not len(datamodule(trainer).val):
            raise UserError(
                f"callbacks.early_stopping watches {self.monitor}, but data.val_size=0 leaves "
                "nothing to validate"
            )
        trainer.should_stop |= self.ended

    @property
    def ended(self) -> bool:
        """Has the run waited for as long as the patience of this session allows?"""
        return self.wait_count >= max(self.patience, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict | {"patience": self.patience})  # the session's own

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "fit":
            monitored(trainer, "callbacks.early_stopping", self.monitor)
        super().on_validation_end(trainer, pl_module)
        if trainer.should_stop:
            best = float(self.best_score)
            log.info(
                "epoch %d: %s has not got better than %.4g: stopped",
                trainer.current_epoch + 1,
                self.monitor,
                best,
            )


def way_to_go_on(trainer: pl.Trainer) -> str:
    """What to say to a run that has nothing left to train, so that it does."""
    for callback in callbacks(trainer):
        if isinstance(callback, EarlyStopping) and callback.ended:
            return (
                f"early stopping ended this run after {trainer.current_epoch} epochs: "
                f"callbacks.early_stopping.patience=N with N > {callback.wait_count} goes on, or "
                "~callbacks.early_stopping"
            )
    return f"run already finished ({trainer.max_epochs} epochs): trainer.max_epochs=N with N > {trainer.max_epochs} goes on"
