"""The learning rate range test: raise the rate from batch to batch, and record the loss."""

import math
from typing import Any

import pytorch_lightning as pl

from src.core.progress import progress

EXPLODED = 4.0  # the test ends if the loss rises by this many times the range so far
INERTIA = 0.9  # weight of earlier losses in the running mean that ends the test


class LRRange(pl.Callback):
    """Raise the learning rate geometrically, whatever schedule the model has.

    Groups of parameters keep the ratio of their rates.

    Args:
        min_lr, max_lr: rates of the first and of the last batch.
        batches: number of batches.

    Attributes:
        rates: the learning rate of each finished batch.
        losses: its loss.
        exploded: whether the loss ended the test early.
    """

    def __init__(self, min_lr: float, max_lr: float, batches: int) -> None:
        self.min_lr, self.max_lr, self.batches = min_lr, max_lr, batches
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.exploded = False
        self.mean = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        share = progress(trainer).batch / max(1, self.batches - 1)
        rate = self.min_lr * (self.max_lr / self.min_lr) ** share
        self.rates.append(rate)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                own = group.setdefault("initial_lr", group["lr"])
                group["lr"] = rate * own / optimizer.defaults["lr"]

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        loss = float(outputs["loss"])
        self.mean = INERTIA * self.mean + (1 - INERTIA) * loss if self.losses else loss
        self.losses.append(loss)
        spread = self.losses[0] - min(self.losses)
        limit = self.losses[0] + EXPLODED * max(spread, 0.1 * abs(self.losses[0]))
        self.exploded = not math.isfinite(loss) or self.mean > limit
        if self.exploded or len(self.losses) == self.batches:
            trainer.should_stop = True
