"""Stop training when a metric no longer improves."""

import logging
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer

from src.callbacks.trainer_state import callbacks, expect_validation, monitored
from src.core.counts import count
from src.core.progress import progress
from src.core.types import NonNegative, NonNegativeInt
from src.metrics.directions import Direction, mode_of

log = logging.getLogger(__name__)


class EarlyStopping(pl.callbacks.EarlyStopping):
    """Lightning's early stopping, with an error for a missing metric, and exact after a resume.

    A run that it stopped continues if a resumed session sets a larger patience or removes it.

    Args:
        monitor: name of the metric, such as `val/loss`; None: the one that the model names (see
            `src.models.base.Family.monitor`).
        mode: whether `min` or `max` is better; None: by the metric's name.
        patience: validations without improvement to wait before stopping.
        min_delta: smallest change that counts as an improvement.
    """

    def __init__(
        self,
        monitor: str | None,
        mode: Direction | None,
        patience: NonNegativeInt,
        min_delta: NonNegative,
    ) -> None:
        # a value that is not finite counts as no improvement, and does not end the run
        super().__init__(
            monitor or "",
            min_delta,
            patience,
            mode=mode_of(monitor, mode),
            check_finite=False,
            check_on_train_epoch_end=False,
        )

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        self.monitor = self.monitor or pl_module.monitor
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        expect_validation(trainer, "callbacks.early_stopping", self.monitor)
        trainer.should_stop |= self.ended

    @property
    def ended(self) -> bool:
        """Return whether the run has waited as long as the patience of this session allows."""
        return self.wait_count >= max(self.patience, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict | {"patience": self.patience})  # keep this session's

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "fit":
            monitored(trainer, "callbacks.early_stopping", self.monitor)
        super().on_validation_end(trainer, pl_module)
        if self.ended:
            best = float(self.best_score)
            log.info(
                "epoch %d: stopped, because %s has not improved on %.4g",
                trainer.current_epoch + 1,
                self.monitor,
                best,
            )


def how_to_train_longer(trainer: pl.Trainer) -> str:
    """Return why a finished run has ended, and the setting with which it trains longer."""
    for callback in callbacks(trainer):
        if isinstance(callback, EarlyStopping) and callback.ended:
            return (
                f"early stopping ended this run after {count(trainer.current_epoch, 'epoch')}. "
                "To train longer: callbacks.early_stopping.patience=N with "
                f"N > {callback.wait_count}, or ~callbacks.early_stopping"
            )
        if isinstance(callback, Timer) and (callback.time_remaining() or 0) <= 0:
            return (
                f"trainer.max_time ended this run after {count(progress(trainer).batch, 'batch')}. "
                "To train longer: trainer.max_time=null, or a longer time"
            )
    epochs = trainer.max_epochs or 0
    return (
        f"training had already finished ({count(epochs, 'epoch')}). To train longer: "
        f"trainer.max_epochs=N with N > {epochs}"
    )
