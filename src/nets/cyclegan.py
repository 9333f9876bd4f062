"""CycleGAN's nets (Zhu 2017, appendix 7.2): Johnson's residual generator, PatchGAN discriminator.

Images are (B, C, H, W) in [-1, 1]. All norms are instance norms, so the output for a sample does
not depend on the rest of its batch.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.core.types import ImageSize, Interval, PositiveInt, height_width
from src.nets.init import initialize


class InstanceNorm(nn.Module):
    """Normalize each map of each image to mean 0 and variance 1 (Ulyanov 2016), without weights.

    The result equals nn.InstanceNorm2d. It is computed as a layer norm over the pixels, in the
    precision of the input: torch's version casts bf16 back and forth and copies the maps.
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.layer_norm(x, x.shape[2:])


class AddToImage(nn.Module):
    """Add the network's output to its input, then clamp to [-1, 1] (Shen & Liu 2017).

    The image keeps its own colors, which the instance norms of the network would lose.

    Args:
        net: images (B, C, H, W) in [-1, 1] -> differences of the same shape, any real number.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return (x.float() + self.net(x).float()).clamp(-1, 1)


class Residual(nn.Module):
    """R256: x plus two 3 x 3 convolutions of x, with reflection padding and norms."""

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
    """Build a translator: c7s1-64, d128, d256, R256 x n_blocks, u128, u64, c7s1-C, tanh.

    Args:
        channels: channels of the images.
        size: side or (height, width) of the training images. The network then takes images of any
            size whose sides are multiples of 4.
        base_channels: channels of the first layer.
        n_blocks: residual blocks; None: 9 for images of 256 pixels or more, else 6.
        n_downsampling: how often the sides are halved before the blocks, 1 or 2. None: 2 (as in the
            paper) for images of 64 pixels or more, else 1: halving 32 pixels twice leaves 8, from
            which a picture cannot be restored.
        residual: learn the difference from the input instead of the whole image (see `AddToImage`).

    Returns:
        Images of one domain (B, C, H, W) in [-1, 1] -> images of the other.

    Raises:
        ValueError: a side is not a multiple of 4, or below 16.
    """
    sides = height_width(size)
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
    """Build a PatchGAN: C64-C128-C256-C512 and a last convolution; no norm in the first layer.

    Uses 4 x 4 convolutions and LeakyReLU 0.2. A score depends on 70 x 70 pixels with three strided
    layers (as in the paper), on 34 x 34 with two, on 16 x 16 with one.

    Args:
        channels: channels of the images.
        size: side or (height, width) of the training images.
        base_channels: channels of the first layer.
        n_layers: number of strided layers; None: 3 for images of 128 pixels or more, 2 from 64,
            else 1, so that a patch is smaller than the image.

    Returns:
        Images (B, C, H, W) in [-1, 1] -> scores (B, 1, h, w), one per patch.

    Raises:
        ValueError: the image is too small for the strides.
    """
    side = min(height_width(size))
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
    """Return reflection padding, a convolution that keeps the size, and a norm.

    The norm removes the mean, so the convolution needs no bias.
    """
    return [
        nn.ReflectionPad2d(kernel // 2),
        nn.Conv2d(n_in, n_out, kernel, bias=False),
        InstanceNorm(),
    ]
