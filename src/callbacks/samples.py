"""Samples of a model, from one fixed noise."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl

from src.callbacks.image_series import ImageSeries, image_grid
from src.callbacks.protocols import CanSample, CanSampleClasses
from src.callbacks.trainer_state import datamodule
from src.core.randomness import generator


class Samples(ImageSeries):
    """A grid of n samples; for a conditional model each column is a class."""

    name = "samples"
    title = "samples from fixed noise"

    def draw(self, trainer: pl.Trainer, model: Any) -> np.ndarray | None:
        if not isinstance(model, CanSample):
            return None
        images = model.sample(self.n, generator(self.seed, "samples"))
        return image_grid(images, _columns(model))

    def headers(self, trainer: pl.Trainer, model: Any) -> Sequence[str]:
        return datamodule(trainer).class_names if _columns(model) else ()


def _columns(model: Any) -> int | None:
    """Return the number of classes of a conditional model, else None."""
    return model.num_classes if isinstance(model, CanSampleClasses) else None
