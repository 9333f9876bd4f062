"""Histograms of weights, filters of convolutions as tiles."""

from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn

from src import plots
from src.callbacks.common import batches_seen, board, due, finishing

MOST = 20_000  # values a histogram: the bins of more look the same and take seconds


class Weights(pl.Callback):
    """To TensorBoard: a histogram of each weight matrix, and each convolution's filters (see `plots.filter_tile`).

    Args:
        every_n_batches: between them, and at powers of two before the first, beginning at 16.
    """

    def __init__(self, every_n_batches: int) -> None:
        self.every_n_batches = every_n_batches

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = batches_seen(trainer)
        if due(step, self.every_n_batches) and (step >= 16 or step == 1):
            self._show(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if finishing(trainer):
            self._show(trainer, pl_module)

    def _show(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        writer = board(trainer)
        if writer is None or not trainer.is_global_zero:
            return
        step = batches_seen(trainer)
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and parameter.requires_grad:
                writer.add_histogram(f"weights/{name}", _thinned(parameter), step)
        for name, layer in model.named_modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and layer.kernel_size[0] > 1:
                weight = layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight
                tile = plots.filter_tile(weight)
                writer.add_image(f"filters/{name}", tile, step, dataformats="HW" if tile.ndim == 2 else "HWC")


def _thinned(values: Tensor) -> Tensor:
    """About MOST of the values, evenly spaced."""
    flat = values.detach().float().flatten()
    return flat[:: max(1, len(flat) // MOST)].cpu()
