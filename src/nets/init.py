"""Initialization of weights, by name or from images."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Init = Literal["default", "kaiming", "xavier", "normal", "dirac"]
LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def initialize(net: nn.Module, how: str) -> None:
    """Initialize the weights of all linear and convolution layers in place.

    Their biases become zero, except with `default` and `dirac`. Norm layers keep their ones and
    zeros.

    Args:
        net: the network.
        how: `default` (keep PyTorch's), `kaiming` (normal, fan in), `xavier` (uniform), `normal`
            (0, 0.02; Radford 2015), or `dirac` (PyTorch's, but the first filters of each
            convolution pass on one input channel each; Zagoruyko 2017). PyTorch counts the outputs
            of a transposed convolution as its fan in, so with `kaiming` a DCGAN's generator starts
            with many saturated pixels.
    """
    if how == "default":
        return
    if how == "dirac":
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.kernel_size[0] > 1:
                nn.init.dirac_(layer.weight.data[: layer.in_channels])
        return
    draws: dict[str, Callable[..., Tensor]] = {
        "kaiming": nn.init.kaiming_normal_,
        "xavier": nn.init.xavier_uniform_,
        "normal": lambda weight: nn.init.normal_(weight, 0.0, 0.02),
    }
    for layer in net.modules():
        if isinstance(layer, LAYERS):
            draws[how](layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@torch.no_grad()
def whiten(layer: nn.Conv2d, images: Tensor) -> None:
    """Initialize a convolution with the principal components of its input.

    See Jordan 2024.

    Each component becomes two filters, itself and its negative, scaled so that the response has
    variance 1. The strongest come first. Filters that are left over keep their values. Components
    with no variance are skipped, such as those of color in gray images.

    Args:
        layer: changed in place.
        images: (N, C, H, W).
    """
    n, dims = 0, layer.weight[0].numel()
    total = torch.zeros(dims, dims, dtype=torch.float64, device=images.device)
    for part in images.split(max(1, 2**20 // images[0].numel())):  # bounds memory
        unfolded = F.unfold(part.double(), layer.kernel_size)
        patches = unfolded.transpose(1, 2).flatten(0, 1)  # (patches, C * h * w)
        n, total = n + len(patches), total + patches.T @ patches
    values, vectors = torch.linalg.eigh(total / n)
    pairs = min(int((values > 1e-6 * values[-1]).sum()), layer.out_channels // 2)
    filters = (vectors / (values + 1e-4).sqrt()).T.flip(0)[:pairs].view(-1, *layer.weight.shape[1:])
    layer.weight[: 2 * pairs] = torch.cat([filters, -filters]).to(layer.weight)


def spectral_norm(net: nn.Module) -> nn.Module:
    """Divide all weights by their largest singular value (Miyato 2018), in place.

    Applies to linear and convolution layers; returns `net`.
    """
    for layer in list(net.modules()):
        if isinstance(layer, LAYERS):
            nn.utils.parametrizations.spectral_norm(layer)
    return net
