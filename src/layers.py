"""What a net is made of, layer by layer: shapes, parameters, multiply-adds. Works without memory, on the meta device."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

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


def layers(net: nn.Module, shape: Sequence[int]) -> list[Layer]:
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
