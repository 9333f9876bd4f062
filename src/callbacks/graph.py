"""The graph of each network, for TensorBoard's graph tab."""

import warnings
from typing import Any, Protocol, runtime_checkable

import pytorch_lightning as pl
import torch
from torch import nn

from src.callbacks.images import summary_writer
from src.callbacks.loggers import Events


@runtime_checkable
class HasGraphs(Protocol):
    """A model that names its networks, each with an input for tracing."""

    def graphs(self) -> dict[str, tuple[nn.Module, Any]]:
        """Return name -> (network, example input)."""


class Graph(pl.Callback):
    """Write the graph of each network once, traced in eval mode.

    Each is a separate sub-run, since TensorBoard keeps one graph per run.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        writer = summary_writer(trainer)
        if (
            writer is None
            or not trainer.is_global_zero
            or trainer.current_epoch
            or not isinstance(pl_module, HasGraphs)
        ):
            return
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer warns about its own limits
            for name, (net, example) in pl_module.graphs().items():
                with Events(f"{writer.log_dir}/graph/{name}") as own:
                    own.add_graph(net, example)
        pl_module.train()  # the tracer put frozen parts into training mode, too
