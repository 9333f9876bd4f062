"""The graph of the networks of a model, for TensorBoard's graph tab."""

import warnings
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from src.callbacks.images import summary_writer
from src.core.progress import progress


@runtime_checkable
class HasGraphs(Protocol):
    """A model that names its networks, each with an input for tracing."""

    def graphs(self) -> dict[str, tuple[nn.Module, Any]]:
        """Return name -> (network, example input)."""


class SideBySide(nn.Module):
    """Networks that do not call each other, as one module: TensorBoard keeps one graph per run.

    Args:
        nets: the networks by name.
    """

    def __init__(self, nets: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, net in nets.items():
            self.add_module(name, net)

    def forward(self, *inputs: Any) -> tuple[Tensor, ...]:
        """Return all outputs, one after another.

        Args:
            inputs: for each network its input, or a tuple of its inputs.
        """
        outputs = [
            net(*given) if isinstance(given, tuple) else net(given)
            for net, given in zip(self.children(), inputs, strict=True)
        ]
        return tuple(one for one in tree_leaves(outputs) if isinstance(one, Tensor))


class Graph(pl.Callback):
    """Write the graph of all networks of a model once, traced in eval mode."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        writer = summary_writer(trainer)
        if (
            writer is None
            or not trainer.is_global_zero
            or progress(trainer).batch
            or not isinstance(pl_module, HasGraphs)
        ):
            return
        graphs = pl_module.graphs()
        root = type(type(pl_module).__name__, (SideBySide,), {})  # the graph shows its name
        nets = root({name: net for name, (net, _) in graphs.items()})
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer warns about its own limits
            writer.add_graph(nets, tuple(example for _, example in graphs.values()))
        pl_module.train()  # the tracer put frozen parts into training mode, too
