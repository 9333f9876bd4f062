"""Training that ends when nothing gets better any more."""

from typing import Any

import pytorch_lightning as pl

from src.callbacks.common import data_of, measured
from src.data.base import log
from src.errors import UserError


class EarlyStopping(pl.callbacks.EarlyStopping):
    """Lightning's, with a line for a measure that is not there, and exact: a run cut when it had just stopped stays so.

    Args:
        monitor: the measure's name, `val/loss` say.
        mode: is `min` or `max` better?
        patience: validations in a row without a better value that are borne.
        min_delta: what is better by no more than this is not.
    """

    def __init__(self, monitor: str, mode: str, patience: int, min_delta: float) -> None:
        super().__init__(monitor, min_delta, patience, mode=mode, check_on_train_epoch_end=False)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not len(data_of(trainer).val):
            raise UserError(
                f"callbacks.early_stopping watches {self.monitor}, but data.val_size=0 leaves nothing to validate"
            )
        if self.stopped_epoch:
            trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "fit":
            measured(trainer, "callbacks.early_stopping", self.monitor)
        super().on_validation_end(trainer, pl_module)
        if trainer.should_stop:
            best = float(self.best_score)
            log.info(
                "epoch %d: %s has not got better than %.4g: stopped",
                trainer.current_epoch + 1,
                self.monitor,
                best,
            )
