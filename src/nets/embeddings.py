"""Pooled features of a network at several depths: what a small classifier can learn from."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from src.nets.inspect import classifier_heads


@torch.no_grad()
def cut_points(net: nn.Module, shape: Sequence[int]) -> list[str]:
    """Return the modules at whose output `net` can be cut, from the input on.

    For each size of feature maps, this is the last module with maps of this size, unless it is a
    part of a block whose own maps have another size. In a residual network these are the ends of
    its stages. Networks of tokens and those with channels last (Swin) have no cut points.

    Args:
        net: the network, in eval mode.
        shape: of an image, (C, H, W).
    """
    tokens: list[str] = []
    sizes: dict[str, tuple[int, ...]] = {}  # of the maps of each module, in the order of the calls

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 3:
                tokens.append(name)
            elif isinstance(output, Tensor) and output.ndim == 4 and max(output.shape[2:]) > 1:
                sizes[name] = tuple(output.shape[2:])

        return hook

    modules = dict(net.named_modules())
    handles = [m.register_forward_hook(note(name)) for name, m in modules.items() if name]
    try:
        net(torch.zeros(1, *shape, device=next(net.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    if tokens or getattr(net, "output_fmt", "NCHW") != "NCHW":
        return []

    def is_part(name: str) -> bool:
        """Return whether a block around `name`, which is not a chain, has maps of another size."""
        around = [name[:i] for i, letter in enumerate(name) if letter == "."]
        blocks = [outer for outer in around if not isinstance(modules[outer], nn.Sequential)]
        return any(sizes.get(outer, sizes[name]) != sizes[name] for outer in blocks)

    return list({size: name for name, size in sizes.items() if not is_part(name)}.values())


@torch.no_grad()
def embed(net: nn.Module, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
    """Return the features of images at some depths, each pooled to one vector per image.

    Maps (B, C, h, w) are averaged over h and w, tokens (B, N, C) over N.

    Args:
        net: the network, in eval mode.
        x: normalized images (B, 3, H, W).
        layers: names of modules, such as the `cut_points`.

    Returns:
        (B, C) by name, for `layers` and for the head: the input of the last layer.
    """
    found: dict[str, Tensor] = {}
    head = classifier_heads(net)[0]
    handles = [
        net.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: found.update({name: _pooled(output)})
        )
        for name in layers
    ]
    handles.append(
        net.get_submodule(head).register_forward_pre_hook(
            lambda module, inputs: found.update({head: _pooled(inputs[0])})
        )
    )
    try:
        net(x)
    finally:
        for handle in handles:
            handle.remove()
    return {name: found[name] for name in (*layers, head)}


def _pooled(features: Tensor) -> Tensor:
    """Average (B, C, h, w) or (B, N, C) to (B, C)."""
    if features.ndim == 3:
        return features.mean(1)
    return features.flatten(2).mean(2) if features.ndim == 4 else features.clone()
