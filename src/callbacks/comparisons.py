"""Images next to the versions that a model makes of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl

from src.callbacks.image_series import ImageSeries, image_grid
from src.callbacks.protocols import CanCompare
from src.callbacks.trainer_state import probe_images
from src.core.randomness import generator


class Comparisons(ImageSeries):
    """Rows of input images and the model's outputs, at most n rows."""

    name = "comparisons"
    title = "{images} and model outputs"

    def draw(self, trainer: pl.Trainer, model: Any) -> np.ndarray | None:
        if not isinstance(model, CanCompare):
            return None
        noise = generator(self.seed, "comparisons")
        rows = model.compare(*probe_images(trainer, self.n), noise)  # (n, k, C, H, W)
        return image_grid(rows.flatten(0, 1), rows.shape[1])

    def headers(self, trainer: pl.Trainer, model: Any) -> Sequence[str]:
        return model.compared
