"""Reconstructions of images."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from src.callbacks.image_series import ImageSeries, image_grid
from src.callbacks.protocols import CanReconstruct
from src.callbacks.trainer_state import probe_images
from src.core.randomness import generator


class Reconstructions(ImageSeries):
    """n images, each with its reconstruction to the right of it, in rows of four pairs."""

    name = "reconstructions"
    title = "{images}, each with its reconstruction to the right"

    def draw(self, trainer: pl.Trainer, model: Any) -> np.ndarray | None:
        if not isinstance(model, CanReconstruct):
            return None
        images, _ = probe_images(trainer, self.n)
        made = model.reconstruct(images, generator(self.seed, "reconstructions")).cpu()
        return image_grid(torch.stack([images, made], 1).flatten(0, 1), 2 * min(4, len(images)))
