"""Weight initialisation, by name and from images."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Init = Literal["default", "kaiming", "xavier", "normal", "dirac"]
LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def initialize(net: nn.Module, how: str) -> None:
    """Draw the weights of all linear and convolution layers anew; biases become zero.

    Args:
        net: changed in place; norm layers keep their ones and zeros.
        how: `default` (leave PyTorch's), `kaiming` (normal, fan in), `xavier` (uniform), `normal` (0, 0.02; Radford 2015), or
            `dirac` (PyTorch's, but that each convolution's first filters hand on its input, one a channel; Zagoruyko 2017).
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
    """Have `layer` begin with the principal components of what it sees, each as a filter and as its negative, of variance 1.

    The components of `images` (N, C, H, W), the strongest first, in as many pairs of filters as there are; what filters are
    left over stay as drawn (Jordan 2024, section 3.3). Those that no image has, as of grey shown in colour, are left out.
    """
    n, total = (
        0,
        torch.zeros([layer.weight[0].numel()] * 2, dtype=torch.float64, device=images.device),
    )
    for part in images.split(max(1, 2**20 // images[0].numel())):  # bounds memory
        patches = (
            F.unfold(part.double(), layer.kernel_size).transpose(1, 2).flatten(0, 1)
        )  # (places, C * h * w)
        n, total = n + len(patches), total + patches.T @ patches
    values, vectors = torch.linalg.eigh(total / n)
    pairs = min(int((values > 1e-6 * values[-1]).sum()), layer.out_channels // 2)
    filters = (vectors / (values + 1e-4).sqrt()).T.flip(0)[:pairs].view(-1, *layer.weight.shape[1:])
    layer.weight[: 2 * pairs] = torch.cat([filters, -filters]).to(layer.weight)


def spectral_norm(net: nn.Module) -> nn.Module:
    """Divide every linear and convolution weight by its largest singular value (Miyato 2018); changes `net` in place."""
    for layer in list(net.modules()):
        if isinstance(layer, LAYERS):
            nn.utils.parametrizations.spectral_norm(layer)
    return net
