"""The position of a run: epoch, batch and total."""

from typing import Any, NamedTuple, cast

import pytorch_lightning as pl


class Progress(NamedTuple):
    """How far a run is, over all its sessions.

    Attributes:
        epoch: epochs whose batches are all done. Use this instead of Lightning's `current_epoch`,
            which is one too low while a run interrupted at the end of an epoch restarts, when
            workers already receive batch requests.
        batch: batches finished, however many optimizers step; the x axis of every plot.
        total: batches of the whole run; infinite until the data are loaded.
    """

    epoch: int
    batch: int
    total: float

    @property
    def fraction(self) -> float:
        """The part of the run that is finished, in [0, 1]."""
        return self.batch / self.total


def progress(trainer: pl.Trainer) -> Progress:
    """Return how far `trainer` is."""
    loop: Any = trainer.fit_loop
    epoch, batch = loop.epoch_progress.current, loop.epoch_loop.batch_progress.total
    total = trainer.num_training_batches * (trainer.max_epochs or 1)
    return Progress(epoch.processed, batch.processed, total)


def is_logging_step(trainer: pl.Trainer, batch: int) -> bool:
    """Return whether the metrics of batch number `batch`, counted from 1, are logged."""
    return batch % cast(Any, trainer).log_every_n_steps == 0
