"""The latent plane of a model with two latent dimensions."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from src.callbacks.image_series import ImageSeries
from src.callbacks.protocols import CanDecode, CanEncode
from src.callbacks.trainer_state import datamodule, probe_images
from src.viz import grids
from src.viz.charts import draw_plane

POINTS = 2000  # images in the scatter, at most


class LatentMap(ImageSeries):
    """The plane as n x n decoded images, next to images as points colored by class.

    The decoded images lie on a regular grid of quantiles of the prior N(0, I), so that each
    stands for the same probability (Kingma & Welling 2013, figure 4). A point is the mean of
    q(z | x).
    Both halves have the same axes: quantiles of z_1 from left to right and of z_2 from bottom to
    top.
    """

    name = "latent_map"
    title = "latent plane: decoded images, and {images} as points"

    def draw(self, trainer: pl.Trainer, model: Any) -> np.ndarray | None:
        if not (isinstance(model, CanEncode) and isinstance(model, CanDecode)):
            return None
        if model.latent_dim != 2:
            return None
        axis = torch.special.ndtri((torch.arange(self.n) + 0.5) / self.n)  # quantiles of N(0, 1)
        z_2, z_1 = torch.meshgrid(-axis, axis, indexing="ij")
        z = torch.stack([z_1, z_2], 2).flatten(0, 1)  # (n * n, 2), row by row from the top
        decoded = grids.grid(model.decode(z), self.n, gap=0)

        data = datamodule(trainer)
        images, labels = probe_images(trainer, POINTS)
        points = torch.special.ndtr(model.encode(images).cpu())
        labels = labels if data.num_classes else torch.zeros(len(points), dtype=torch.long)
        return draw_plane(decoded, points, labels, data.class_names)
