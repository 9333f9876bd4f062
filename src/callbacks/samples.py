"""Samples of a model, from one fixed noise."""

from typing import Any

import numpy as np
import pytorch_lightning as pl

from src.callbacks.image_series import ImageSeries, image_grid
from src.callbacks.protocols import CanSample, CanSampleClasses
from src.core.randomness import generator


class Samples(ImageSeries):
    """A grid of n samples; for a conditional model each column is a class."""

    name = "samples"

    def draw(self, trainer: pl.Trainer, model: Any) -> np.ndarray | None:
        if not isinstance(model, CanSample):
            return None
        images = model.sample(self.n, generator(self.seed, "samples"))
        return image_grid(
            images, model.num_classes if isinstance(model, CanSampleClasses) else None
        )
