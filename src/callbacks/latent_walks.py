"""Walks through latent space, from one image to another."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from src.callbacks.image_series import ImageSeries, image_grid
from src.callbacks.protocols import CanDecode, CanEncode
from src.callbacks.trainer_state import probe_images
from src.nets.latents import straight_walks

STEPS = 8  # decoded images in a walk


class LatentWalks(ImageSeries):
    """n walks, a row each: an image, the decoded straight line to another image, that image."""

    name = "walks"
    title = "walks in latent space, in straight lines between two {images}"

    def draw(self, trainer: pl.Trainer, model: Any) -> np.ndarray | None:
        if not (isinstance(model, CanEncode) and isinstance(model, CanDecode)):
            return None
        images, _ = probe_images(trainer, 2 * self.n)
        if (n := len(images) // 2) == 0:
            return None
        start, end = model.encode(images[: 2 * n]).split(n)  # (n, latent_dim) each
        walks = model.decode(straight_walks(start, end, STEPS)).cpu().unflatten(0, (n, STEPS))
        ends = images[: 2 * n].unflatten(0, (2, n)).unsqueeze(2)  # (2, n, 1, C, H, W)
        rows = torch.cat([ends[0], walks, ends[1]], 1)
        return image_grid(rows.flatten(0, 1), STEPS + 2)

    def headers(self, trainer: pl.Trainer, model: Any) -> Sequence[str]:
        return ["image", "decoded", *[""] * (STEPS - 2), "decoded", "image"]
