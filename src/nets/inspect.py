"""What a net is made of, layer by layer: shapes, parameters, multiply-adds, head and backbone.

Works without memory, on the meta device.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Layer(NamedTuple):
    """One call of a layer.

    Attributes:
        name: dotted, as `net.get_submodule` takes it.
        kind: the name of its class: Conv2d, Linear, ...
        shape_in, shape_out: of one image, without the batch: (C, H, W) or (features,).
        parameters: its own, in its first call; 0 in a later one.
        multiply_adds: for one image; of convolutions and fully connected layers, whose biases are left out; else 0.
    """

    name: str
    kind: str
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]
    parameters: int
    multiply_adds: int


def layer_calls(net: nn.Module, shape: Sequence[int]) -> list[Layer]:
    """Every call of a layer, in order, while `net` looks at images of `shape` (C, H, W).

    The net is tried in the mode that it is in: GoogLeNet's auxiliary heads are there in training only. A layer is a module with
    parameters of its own or without modules below it; what `forward` does by functions is not seen.
    """
    rows: list[Layer] = []
    names = {module: name for name, module in net.named_modules()}
    counted: set[nn.Parameter] = set()

    def note(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        own = set(module.parameters(recurse=False)) - counted
        counted.update(own)
        rows.append(
            Layer(
                names[module],
                type(module).__name__,
                tuple(given[0].shape[1:]),
                tuple(out.shape[1:]),
                sum(p.numel() for p in own),
                _multiply_adds(module, given[0], out),
            )
        )

    found = [m for m in names if not list(m.children()) or list(m.parameters(recurse=False))]
    hooks = [module.register_forward_hook(note) for module in found]
    try:
        with torch.no_grad():
            net(torch.zeros(2, *shape, device=next(net.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return rows


def _multiply_adds(module: nn.Module, x: Tensor, out: Tensor) -> int:
    """Each weight is used once at each place: of the output, or of the input of a transposed convolution."""
    if isinstance(module, CONVOLUTIONS):
        return module.weight.numel() * out[0, 0].numel()
    if isinstance(module, TRANSPOSED):
        return module.weight.numel() * x[0, 0].numel()
    if isinstance(module, nn.Linear):
        return module.weight.numel() * out[0, ..., 0].numel()
    return 0


def modules_without_average(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of `model` by name, but those of a moving average."""
    averaged = {
        part
        for module in model.modules()
        if isinstance(module, AveragedModel)
        for part in module.modules()
    }
    return {name: module for name, module in model.named_modules() if module not in averaged}


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """How many parameters of `model` are trained, and how many there are; those of a moving average do not count."""
    parameters = {
        p
        for module in modules_without_average(model).values()
        for p in module.parameters(recurse=False)
    }
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)


def classifier_heads(net: nn.Module) -> list[str]:
    """The names of the layers that answer with classes: the last convolution or fully connected layer of `net`, and that of
    each of its auxiliary classifiers (GoogLeNet's aux1 and aux2)."""
    parts = [
        ("", net),
        *((f"{name}.", part) for name, part in net.named_children() if name.startswith("aux")),
    ]
    return [
        prefix + name
        for prefix, part in parts
        for name in [
            name
            for name, layer in part.named_modules()
            if isinstance(layer, (nn.Linear, nn.Conv2d))
        ][-1:]
    ]


def frozen_parts(net: nn.Module, freeze: str | int) -> tuple[list[nn.Parameter], list[nn.Module]]:
    """What `freeze` keeps as it is: `none`, `backbone` (all but the heads), or so many layers from the first on.

    A layer is a module with parameters of its own, a BatchNorm as well as a convolution. Returns the parameters of the frozen
    layers, and the modules that are to stay in eval mode: those layers, what lies behind one of them without parameters (a
    dropout, say), and what is made of nothing else.

    Raises ValueError where that would leave nothing to learn.
    """
    layers = [
        module for module in net.modules() if any(True for _ in module.parameters(recurse=False))
    ]
    if freeze == "none":
        return [], []
    if freeze == "backbone":
        chosen = set(layers) - {net.get_submodule(name) for name in classifier_heads(net)}
    elif int(freeze) < len(layers):
        chosen = set(layers[: int(freeze)])
    else:
        raise ValueError(
            f"freeze={freeze} leaves nothing to learn: the net has {len(layers)} layers with parameters"
        )
    every, at_rest, behind_frozen = set(layers), [], True
    for module in net.modules():
        within = every.intersection(module.modules())
        if module in every:
            behind_frozen = module in chosen
        if chosen.issuperset(within) if within else behind_frozen:
            at_rest.append(module)
    return [p for layer in chosen for p in layer.parameters(recurse=False)], at_rest
