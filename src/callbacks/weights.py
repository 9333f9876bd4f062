"""Histograms of weights, convolution filters as tiles, and an animation of one layer's filters."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch import Tensor, nn

from src.callbacks.images import (
    delete_images_after,
    log_image,
    progress_caption,
    save_image,
    save_series_gif,
    summary_writer,
)
from src.callbacks.trainer_state import is_due, is_last_epoch
from src.core.errors import UserError
from src.core.progress import progress
from src.core.types import PositiveInt
from src.nets.inspect import modules_without_average
from src.viz import grids
from src.viz.captions import add_title

MAX_VALUES = 20_000  # per histogram; more take seconds and look the same


class Weights(pl.Callback):
    """Write histograms of all weight matrices and tiles of all filters to TensorBoard.

    Args:
        every_n_batches: interval. Before it, they are also written at batches 1, 16, 32, 64, ...
    """

    def __init__(self, every_n_batches: PositiveInt) -> None:
        self.every_n_batches = every_n_batches

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        step = progress(trainer).batch
        is_left_out = 1 < step < 16 and step % self.every_n_batches != 0
        if is_due(step, self.every_n_batches) and not is_left_out:
            self._show(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if is_last_epoch(trainer):
            self._show(trainer, pl_module)

    def _show(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        writer = summary_writer(trainer)
        if writer is None or not trainer.is_global_zero:
            return
        step, kinds = progress(trainer).batch, _kinds(model)
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and parameter.requires_grad:
                values = _thinned(parameter)
                values = values[values.abs() < 1e20]  # range of the writer's bins; drops NaN
                if len(values):
                    writer.add_histogram(f"weights/{name} {kinds[name]}", values, step)
        for name, layer in spatial_convolutions(model).items():
            log_image(trainer, f"filters/{name}", _picture(trainer, name, layer, 24))


class FilterEvolution(pl.Callback):
    """Write images/filters_BATCHES.png of one layer's filters, and filters.gif at the end.

    Writes nothing while the layer is frozen.

    Args:
        every_n_batches: interval between frames.
        layer: name of a convolution, such as `net.conv1`; None: the first whose filters have the
            channels of an image, or else the first.
    """

    def __init__(self, every_n_batches: PositiveInt, layer: str | None) -> None:
        self.every_n_batches, self.layer = every_n_batches, layer

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        delete_images_after(trainer, "filters")
        known = list(spatial_convolutions(pl_module))
        if self.layer is not None and self.layer not in known:
            raise UserError(
                f"callbacks.filters.layer={self.layer} is not a convolution of this network; "
                f"its convolutions are {', '.join(known) or 'none'}"
            )
        if progress(trainer).batch == 0:
            self._draw(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if progress(trainer).batch % self.every_n_batches == 0:
            self._draw(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if is_last_epoch(trainer):
            self._draw(trainer, pl_module)
            save_series_gif(trainer, "filters")

    def _draw(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        layers = spatial_convolutions(model)
        if not (trainer.is_global_zero and layers):
            return
        seen = [name for name, layer in layers.items() if _filters(layer).shape[1] in (1, 3)]
        name = self.layer or [*seen, *layers][0]
        if any(parameter.requires_grad for parameter in layers[name].parameters()):
            picture = _picture(trainer, name, layers[name], 48)
            save_image(trainer, f"filters_{progress(trainer).batch:08d}.png", picture)


def spatial_convolutions(model: nn.Module) -> dict[str, nn.Module]:
    """Return the convolutions larger than 1 x 1 by name, without those of a moving average."""
    return {
        name: layer
        for name, layer in modules_without_average(model).items()
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and layer.kernel_size[0] > 1
    }


def _filters(layer: Any) -> Tensor:
    """Return the filters (n, channels, h, w) of a convolution or a transposed convolution.

    Those of a transposed convolution that paints images are what one input paints.
    """
    training = layer.training
    weight: Tensor = layer.eval().weight  # in training, spectral norm changes its state when read
    layer.train(training)
    if isinstance(layer, nn.ConvTranspose2d) and weight.shape[1] not in (1, 3):
        return weight.transpose(0, 1)
    return weight


def _picture(trainer: pl.Trainer, name: str, layer: nn.Module, tile_pixels: int) -> np.ndarray:
    """Draw the filters of a layer, with its name and the range of their weights."""
    filters, channel = _filters(layer).detach(), ""
    if (channels := filters.shape[1]) not in (1, 3):
        filters, channel = filters[:, :1], f", channel 1 of {channels}"
    tile = grids.filter_tile(filters, tile_pixels=tile_pixels)
    low, high = float(filters.min()), float(filters.max())
    title = f"{name} ({type(layer).__name__}){channel}\nweights {low:+.2f} to {high:+.2f}"
    return add_title(tile, f"{title}\n{progress_caption(trainer)}")


def _kinds(model: nn.Module) -> dict[str, str]:
    """Return the class of the layer of each parameter, and its shape: `Conv2d 16x1x5x5`."""
    return {
        f"{name}.{own}".removeprefix("."): f"{type(layer).__name__} {'x'.join(map(str, p.shape))}"
        for name, layer in model.named_modules()
        for own, p in layer.named_parameters(recurse=False)
    }


def _thinned(values: Tensor) -> Tensor:
    """Return about MAX_VALUES of the values, evenly spaced."""
    flat = values.detach().float().flatten()
    return flat[:: max(1, len(flat) // MAX_VALUES)].cpu()
