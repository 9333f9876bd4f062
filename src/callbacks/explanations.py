"""Pictures of what a classifier sees: feature maps, Grad-CAM, and maximized images."""

import logging
import time
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from src.callbacks.images import log_image, progress_caption, save_image
from src.callbacks.protocols import CanClassify
from src.callbacks.train_metrics import excluded_from_training_time
from src.callbacks.trainer_state import datamodule, is_last_epoch, probe_images
from src.core.progress import progress
from src.core.randomness import generator
from src.core.types import NonNegativeInt, PositiveInt, Seed
from src.viz import explain, grids
from src.viz.captions import add_title, draw_captioned, draw_feature_maps, draw_predictions

log = logging.getLogger(__name__)

MAX_PIXELS = 2**17  # limits the time: pixels of all optimized images together, if n_classes is null
HEAT = {"little": (64, 64, 255), "some": (64, 255, 64), "most": (255, 0, 0)}  # Grad-CAM's colors
LONG = 10  # seconds; a picture that takes longer is announced


def affordable_images(height: int, width: int) -> int:
    """Return how many images of this size to optimize by default, from 1 to 10."""
    return max(1, min(10, MAX_PIXELS // (height * width)))


class Explanations(pl.Callback):
    """Write pictures to TensorBoard, and the newest ones to images/.

    The files are feature_maps.png, grad_cam.png and maximized.png.

    Args:
        every_n_batches: interval of the feature maps of the first validation image. They are also
            drawn after the first batch and at the end.
        max_layers: largest number of convolutions to show, evenly spaced from first to last.
        n: images for Grad-CAM, drawn at the end only.
        n_classes: number of classes, from the first, for which an image is optimized at the end;
            0: none. None: up to 10, fewer if the images have more than 114 x 114 pixels.
        seed: seed of the noise that these images start from. The callback has its own generator, so
            it does not change training.
    """

    def __init__(
        self,
        every_n_batches: PositiveInt,
        max_layers: PositiveInt,
        n: PositiveInt,
        n_classes: NonNegativeInt | None,
        seed: Seed,
    ) -> None:
        self.every_n_batches, self.max_layers, self.n, self.n_classes, self.seed = (
            every_n_batches,
            max_layers,
            n,
            n_classes,
            seed,
        )

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        step = progress(trainer).batch
        if step == 1 or step % self.every_n_batches == 0:
            self._show(trainer, pl_module, at_end=False)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if is_last_epoch(trainer):
            with excluded_from_training_time(trainer):
                self._show(trainer, pl_module, at_end=True)

    def _show(self, trainer: pl.Trainer, model: pl.LightningModule, at_end: bool) -> None:
        if not trainer.is_global_zero or not isinstance(model, CanClassify):
            return
        net = model.measured_net
        was_training = model.training
        net.eval()  # does not update BatchNorm's buffers
        try:
            self._feature_maps(trainer, model, net)
            if at_end:
                self._grad_cam(trainer, model, net)
                self._maximized(trainer, model, net)
        finally:
            model.train(was_training)  # not net.train(): parts of it may be frozen

    def _feature_maps(self, trainer: pl.Trainer, model: Any, net: nn.Module) -> None:
        images, _ = probe_images(trainer, 1)
        maps = explain.feature_maps(net, model.scaled(images.to(model.device)))
        if not maps:
            return
        picked = np.unique(
            np.linspace(0, len(maps) - 1, min(self.max_layers, len(maps))).round().astype(int)
        )
        rows = {name: maps[name][0] for name in np.array(list(maps))[picked]}
        when = progress_caption(trainer)
        picture = draw_feature_maps(images[0], rows, f"feature maps of an image\n{when}")
        save_image(trainer, "feature_maps.png", picture)
        for name, layer in rows.items():
            shape = "x".join(map(str, layer.shape[1:]))
            title = f"{name}: {shape} pixels\n{when}"
            log_image(trainer, f"feature_maps/{name}", add_title(grids.map_tile(layer), title))

    def _grad_cam(self, trainer: pl.Trainer, model: Any, net: nn.Module) -> None:
        images, labels = (part.to(model.device) for part in probe_images(trainer, self.n))
        scaled, names = model.scaled(images), datamodule(trainer).class_names
        layer = explain.find_cam_layer(net, scaled)
        if layer is None:
            return
        with torch.no_grad():
            confidence, predicted = net(scaled).float().softmax(1).max(1)
        heat = explain.grad_cam(net, net.get_submodule(layer), scaled, predicted)
        picture = draw_predictions(
            grids.overlay_heatmap(images, heat), labels, predicted, confidence, names
        )
        title = f"Grad-CAM at the layer {layer}: where the evidence for the predicted class is"
        self._write(trainer, "grad_cam", add_title(picture, title, legend=HEAT))

    def _maximized(self, trainer: pl.Trainer, model: Any, net: nn.Module) -> None:
        data = datamodule(trainer)
        wanted = affordable_images(*data.size) if self.n_classes is None else self.n_classes
        n = min(wanted, model.num_classes)
        if not n:
            return
        chosen = torch.arange(n, device=model.device)
        noise, shape = generator(self.seed, "maximised"), (data.channels, *data.size)
        start = time.monotonic()
        with torch.no_grad():
            net(model.scaled(torch.zeros(n, *shape, device=model.device)))
        seconds = 3 * explain.MAXIMIZE_STEPS * (time.monotonic() - start)
        if seconds > LONG:
            log.info(
                "maximized.png takes about %.0f seconds (callbacks.explanations.n_classes=0 leaves "
                "it out)",
                seconds,
            )
        images = explain.maximize_classes(lambda x: net(model.scaled(x)), chosen, shape, noise)
        names = [data.class_names[k] for k in chosen.tolist()]
        picture = draw_captioned(images, names, max_side=128)
        title = "images optimized to maximize the logit of a class"
        self._write(trainer, "maximized", add_title(picture, title))

    def _write(self, trainer: pl.Trainer, name: str, picture: np.ndarray) -> None:
        save_image(trainer, f"{name}.png", picture)
        log_image(trainer, name, picture)
