"""CycleGAN's nets (Zhu 2017, appendix 7.2): Johnson's residual generator and the PatchGAN discriminator.

Images are (B, C, H, W) in [-1, 1]. Every norm is an instance norm, so a sample's answer does not depend on its batch.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.core.types import ImageSize, Interval, PositiveInt
from src.nets.init import initialize


class InstanceNorm(nn.Module):
    """Each map of each image to mean 0 and variance 1 (Ulyanov 2016), without weights: nn.InstanceNorm2d's numbers.

    As a layer norm over the places, and in the precision that comes: torch's own casts bf16 to and fro and copies the maps.
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.layer_norm(x, x.shape[2:])


class AddToImage(nn.Module):
    """Add to the image what a net makes of it, then clamp to [-1, 1] (Shen & Liu 2017, eq. 1).

    The image keeps its own colors, which the instance norms of the net would lose.

    Args:
        net: images (B, C, H, W) in [-1, 1] -> differences of the same shape, any real number.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return (x.float() + self.net(x).float()).clamp(-1, 1)


class Residual(nn.Module):
    """R256: x + two 3 x 3 convolutions of x, reflection padding, a norm behind each, ReLU between."""

    def __init__(self, channels: PositiveInt) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv(channels, channels, 3), nn.ReLU(inplace=True), *_conv(channels, channels, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def generator(
    channels: PositiveInt,
    size: ImageSize,
    base_channels: PositiveInt = 64,
    n_blocks: PositiveInt | None = None,
    n_downsampling: Annotated[int, Interval(ge=1, le=2)] | None = 2,
    residual: bool = False,
) -> nn.Module:
    """c7s1-64, d128, d256, R256 x blocks, u128, u64, c7s1-C, tanh: images of one domain -> images of the other.

    Args:
        size: of the training images; any whose sides are multiples of 4 will do.
        base_channels: channels of the first layer.
        n_blocks: None: 9 from 256 pixels on, else 6.
        n_downsampling: how often the sides are halved before the blocks, 1 or 2. None: twice, the paper's, from 64 pixels
            on; once
            below, since what is left of 32 pixels by two, 8, is too little to put the picture back from.
        residual: learn the difference from the image instead of the whole image (`AddToImage`).

    Raises ValueError where the sides are not multiples of 4, 16 or more.
    """
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if any(side % 4 or side < 16 for side in sides):
        raise ValueError(
            f"data.size={size} does not fit: its sides must be multiples of 4, 16 or more"
        )
    layers = [*_conv(channels, base_channels, 7), nn.ReLU(inplace=True)]
    widths = [base_channels, 2 * base_channels][: n_downsampling or (2 if min(sides) >= 64 else 1)]
    for n in widths:
        down = nn.Conv2d(n, 2 * n, 3, stride=2, padding=1, bias=False)
        layers += [down, InstanceNorm(), nn.ReLU(inplace=True)]
    layers += [Residual(2 * widths[-1]) for _ in range(n_blocks or (9 if min(sides) >= 256 else 6))]
    for n in reversed(widths):
        up = nn.ConvTranspose2d(2 * n, n, 3, stride=2, padding=1, output_padding=1, bias=False)
        layers += [up, InstanceNorm(), nn.ReLU(inplace=True)]
    last = nn.Conv2d(base_channels, channels, 7)
    net = nn.Sequential(*layers, nn.ReflectionPad2d(3), last)
    initialize(net, "normal")
    return AddToImage(net) if residual else net.append(nn.Tanh())


def discriminator(
    channels: PositiveInt,
    size: ImageSize,
    base_channels: PositiveInt = 64,
    n_layers: PositiveInt | None = None,
) -> nn.Sequential:
    """C64-C128-C256-C512 and a last convolution: images -> raw scores (B, 1, h, w), one for each patch.

    4 x 4 convolutions, LeakyReLU 0.2, no norm on the first. A score sees 70 x 70 pixels with three strided layers, the paper's,
    34 with two, 16 with one.

    Args:
        size: of the training images.
        base_channels: channels of the first layer.
        n_layers: how many are strided; None: three from 128 pixels on, two from 64, one below, so that a patch is a part.

    Raises ValueError where the strides leave no patch.
    """
    side = size if isinstance(size, int) else min(size)
    n_strided = n_layers or max(1, min(3, int(math.log2(side / 16))))
    if side >> n_strided < 3:
        raise ValueError(
            f"n_layers={n_strided}: {n_strided} strides leave nothing of {side} pixels to score"
        )
    row: list[nn.Module] = [
        nn.Conv2d(channels, base_channels, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
    ]
    n = base_channels
    for stride in [2] * (n_strided - 1) + [1]:
        wider = min(2 * n, 8 * base_channels)
        row += [
            nn.Conv2d(n, wider, 4, stride, padding=1, bias=False),
            InstanceNorm(),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        n = wider
    net = nn.Sequential(*row, nn.Conv2d(n, 1, 4, padding=1))
    initialize(net, "normal")
    return net


def _conv(n_in: int, n_out: int, kernel: int) -> list[nn.Module]:
    """Reflection padding, a convolution that keeps the size, a norm (which would take a bias away again)."""
    return [
        nn.ReflectionPad2d(kernel // 2),
        nn.Conv2d(n_in, n_out, kernel, bias=False),
        InstanceNorm(),
    ]
