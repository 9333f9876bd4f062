"""Inspect a net: its layers with shapes, parameters and multiply-adds, its head and backbone.

Works on the meta device, where networks take no memory.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from src.nets.average import MovingAverage

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Layer(NamedTuple):
    """One call of a layer.

    Attributes:
        name: dotted, as `net.get_submodule` takes it.
        kind: the name of its class: Conv2d, Linear, ...
        shape_in, shape_out: for one image, without the batch: (C, H, W) or (features,).
        parameters: number of its parameters without submodules; 0 if the layer was called before.
        multiply_adds: for one image, of convolutions and fully connected layers without their
            biases; 0 for other layers.
    """

    name: str
    kind: str
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]
    parameters: int
    multiply_adds: int


def layer_calls(net: nn.Module, shape: Sequence[int]) -> list[Layer]:
    """Return every call of a layer, in order, when `net` processes images of `shape` (C, H, W)."""
    return calls_with(net, torch.zeros(2, *shape, device=next(net.parameters()).device))


def calls_with(net: nn.Module, inputs: Any) -> list[Layer]:
    """Return every call of a layer, in order, when `net` processes `inputs`.

    A layer is a module that has parameters itself, or without submodules. Functions that `forward`
    calls are not seen. The network keeps its mode: GoogLeNet's auxiliary heads run in training
    only.

    Args:
        inputs: a batch of at least one, or a tuple of them if the network takes several.
    """
    rows: list[Layer] = []
    names = {module: name for name, module in net.named_modules()}
    counted: set[nn.Parameter] = set()

    def record(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        new = set(module.parameters(recurse=False)) - counted
        counted.update(new)
        x, out = _first_tensor(given), _first_tensor(output)
        rows.append(
            Layer(
                names[module],
                type(module).__name__,
                tuple(x.shape[1:]),
                tuple(out.shape[1:]),
                sum(p.numel() for p in new),
                _multiply_adds(module, x, out),
            )
        )

    layers = [m for m in names if not list(m.children()) or list(m.parameters(recurse=False))]
    hooks = [module.register_forward_hook(record) for module in layers]
    try:
        with torch.no_grad():
            net(*inputs if isinstance(inputs, tuple) else (inputs,))
    finally:
        for hook in hooks:
            hook.remove()
    return rows


def _first_tensor(values: Any) -> Tensor:
    """Return the first tensor in nested tuples."""
    while not isinstance(values, Tensor):
        values = values[0]
    return values


def _multiply_adds(module: nn.Module, x: Tensor, out: Tensor) -> int:
    """Count how often weights are used for one image.

    Each weight is used once per pixel: of the output, or of the input of a transposed convolution.
    """
    if isinstance(module, CONVOLUTIONS):
        return module.weight.numel() * out[0, 0].numel()
    if isinstance(module, TRANSPOSED):
        return module.weight.numel() * x[0, 0].numel()
    if isinstance(module, nn.Linear):
        return module.weight.numel() * out[0, ..., 0].numel()
    return 0


def modules_without_average(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules of `model` by name, without those of a moving average."""
    averaged = {
        part
        for module in model.modules()
        if isinstance(module, MovingAverage)
        for part in module.modules()
    }
    return {name: module for name, module in model.named_modules() if module not in averaged}


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return the number of trained parameters and of all, without those of a moving average."""
    modules = modules_without_average(model).values()
    parameters = {p for module in modules for p in module.parameters(recurse=False)}
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)


def classifier_heads(net: nn.Module) -> list[str]:
    """Return the names of the layers that compute class logits.

    A network of timm names them. Those of another are its last convolution or fully connected
    layer, and that of each of its auxiliary classifiers (aux1 and aux2 of GoogLeNet).
    """
    if named := _named_heads(net):
        return [
            f"{head}.{name}".rstrip(".")
            for head in named
            for name, layer in net.get_submodule(head).named_modules()
            if list(layer.parameters(recurse=False))
        ]
    parts = {"": net}
    parts |= {f"{name}.": part for name, part in net.named_children() if name.startswith("aux")}
    heads = []
    for prefix, part in parts.items():
        names = [
            name
            for name, layer in part.named_modules()
            if isinstance(layer, (nn.Linear, nn.Conv2d))
        ]
        heads += [prefix + name for name in names[-1:]]
    return heads


def parts_of(net: nn.Module) -> dict[str, nn.Module]:
    """Return the parts of `net` that have parameters, by name, in the order of their definition.

    Its parts are its children; an nn.Sequential is divided into its own parts.
    """
    parts: dict[str, nn.Module] = {}
    for name, child in net.named_children():
        if isinstance(child, nn.Sequential):
            parts |= {f"{name}.{inner}": part for inner, part in parts_of(child).items()}
        elif list(child.parameters()):
            parts[name] = child
    return parts


def _named_heads(net: nn.Module) -> list[str]:
    """Return the names of the heads that a network of timm states; [] for another network."""
    named = (getattr(net, "pretrained_cfg", None) or {}).get("classifier") or []
    return [named] if isinstance(named, str) else list(named)


def frozen_parts(net: nn.Module, freeze: str | int) -> tuple[list[nn.Parameter], list[nn.Module]]:
    """Return what is not trained.

    A layer is a module that has parameters itself: a BatchNorm counts as well as a convolution.

    Args:
        net: the network.
        freeze: `none`, `backbone` (all but the heads), or the number of layers from the first on.

    Returns:
        The parameters of the frozen layers, without those that the network never trains, and the
        modules that stay in eval mode. These are the frozen layers, modules without parameters
        (such as dropout) that follow one of them outside the heads that timm names, and containers
        in which every layer is frozen.

    Raises:
        ValueError: nothing would be left to train.
    """
    layers = [module for module in net.modules() if list(module.parameters(recurse=False))]
    if freeze == "none":
        return [], []
    if freeze == "backbone":
        frozen = set(layers) - {net.get_submodule(name) for name in classifier_heads(net)}
    elif int(freeze) < len(layers):
        frozen = set(layers[: int(freeze)])
    else:
        raise ValueError(
            f"freeze={freeze} leaves nothing to learn: "
            f"the network has {len(layers)} layers with parameters"
        )
    in_heads = {part for name in _named_heads(net) for part in net.get_submodule(name).modules()}
    in_eval_mode, last_layer_is_frozen = [], True
    for module in net.modules():
        inner_layers = set(layers).intersection(module.modules())
        if module in layers:
            last_layer_is_frozen = module in frozen
        follows = last_layer_is_frozen and module not in in_heads
        if inner_layers <= frozen if inner_layers else follows:
            in_eval_mode.append(module)
    parameters = [p for layer in frozen for p in layer.parameters(recurse=False)]
    return [p for p in parameters if p.requires_grad], in_eval_mode
