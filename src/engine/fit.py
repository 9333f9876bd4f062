"""Train and test with Lightning, with one-line errors for settings that it rejects."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from src.callbacks.checkpoint import latest_metrics
from src.core import runs
from src.core.errors import UserError
from src.engine.instantiate import root_cause
from src.models.base import Family

ONE_VALUE = r"Expected more than 1 value per channel when training[^\n]*"  # says BatchNorm


def fit(trainer: pl.Trainer, model: Family, datamodule: Any, resume: bool) -> dict[str, Any]:
    """Train `model`; return its newest metrics.

    Args:
        resume: whether to continue from the checkpoint that `trainer` was built with.
    """
    model.resumed = resume
    with trainer_errors():
        # the path only says that there is a checkpoint: the trainer was built with it
        trainer.fit(model, datamodule=datamodule, ckpt_path=runs.LAST if resume else None)
    return latest_metrics(trainer)


def test(trainer: pl.Trainer, model: pl.LightningModule, datamodule: Any) -> dict[str, float]:
    """Test `model`; return its metrics."""
    with trainer_errors():
        trainer.test(model, datamodule=datamodule, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@contextmanager
def trainer_errors() -> Iterator[None]:
    """Turn errors about settings, which Lightning or a BatchNorm raises, into a UserError."""
    try:
        yield
    except MisconfigurationException as error:
        raise UserError(f"trainer: {root_cause(error)}") from error
    except (ValueError, RuntimeError) as error:  # torch.compile raises it as a RuntimeError
        if (found := re.search(ONE_VALUE, str(error))) is None:
            raise
        raise UserError(
            f"data.batch_size or the number of training images is too small: a BatchNorm of this "
            f"network needs two images in each batch ({found[0]})"
        ) from error
