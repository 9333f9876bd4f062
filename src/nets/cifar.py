"""Nets for 32 x 32 images as in their papers: ResNet-20 and deeper, DenseNet-BC-100."""

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from src.core.types import Counted, Fraction, Interval, PositiveInt


class Block(nn.Module):
    """Two 3 x 3 convolutions with a shortcut.

    Where the shape changes, the shortcut is subsampled, and its new channels are zero (He 2015,
    option A).
    """

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(n_out)
        self.stride, self.new = stride, n_out - n_in

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        carried = F.pad(
            x[:, :, :: self.stride, :: self.stride],
            (0, 0, 0, 0, self.new // 2, self.new - self.new // 2),
        )
        return F.relu(self.norm2(self.conv2(y)) + carried)


def resnet(
    channels: PositiveInt,
    num_classes: Counted,
    depth: Annotated[int, Interval(ge=8)] = 20,
    base_channels: PositiveInt = 16,
) -> nn.Sequential:
    """Build the ResNet for CIFAR of He 2015, section 4.2.

    A 3 x 3 convolution, then three stages of (depth - 2) / 6 blocks. Maps images (B, C, H, W) to
    logits (B, num_classes).

    Args:
        channels: channels of the images.
        num_classes: number of classes.
        depth: number of layers, 6 n + 2.
        base_channels: channels of the first stage; the others have 2 and 4 times this number.

    Raises:
        ValueError: the depth is not 6 n + 2.
    """
    if depth % 6 != 2:
        raise ValueError(f"depth={depth}: a CIFAR ResNet has 6 n + 2 layers: 20, 32, 44, 56, 110")
    net = nn.Sequential()
    net.add_module("conv", nn.Conv2d(channels, base_channels, 3, 1, 1, bias=False))
    net.add_module("norm", nn.BatchNorm2d(base_channels))
    net.add_module("relu", nn.ReLU())
    n_in = base_channels
    for stage in range(3):
        n_out = base_channels * 2**stage
        blocks = [
            Block(n_in if i == 0 else n_out, n_out, 2 if stage and i == 0 else 1)
            for i in range((depth - 2) // 6)
        ]
        net.add_module(f"stage{stage + 1}", nn.Sequential(*blocks))
        n_in = n_out
    net.add_module("pool", nn.AdaptiveAvgPool2d(1))
    net.add_module("flatten", nn.Flatten())
    net.add_module("fc", nn.Linear(n_in, num_classes))
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)  # He 2015, fan in
    return net


def densenet_bc(
    channels: PositiveInt,
    num_classes: Counted,
    depth: Annotated[int, Interval(ge=10)] = 100,
    growth_rate: PositiveInt = 12,
    dropout: Fraction = 0.0,
) -> nn.Module:
    """Build the DenseNet-BC for CIFAR of Huang 2017, section 3.

    Three dense blocks of (depth - 4) / 6 bottleneck layers, with transitions that halve the
    channels. It is torchvision's DenseNet with its stem for 224 x 224 replaced by one convolution
    of 2 * growth_rate filters. Maps images (B, C, H, W) to logits (B, num_classes).

    Args:
        channels: channels of the images.
        num_classes: number of classes.
        depth: number of layers, 6 n + 4.
        growth_rate: channels that each layer adds.
        dropout: rate after each layer.

    Raises:
        ValueError: the depth is not 6 n + 4.
    """
    if depth % 6 != 4:
        raise ValueError(
            f"depth={depth}: a DenseNet-BC of three blocks has 6 n + 4 layers: 40, 100, 190, 250"
        )
    import torchvision  # slow to import

    layers = (depth - 4) // 6
    net = torchvision.models.DenseNet(
        growth_rate,
        (layers, layers, layers),
        2 * growth_rate,
        drop_rate=dropout,
        num_classes=num_classes,
    )
    net.features.conv0 = nn.Conv2d(channels, 2 * growth_rate, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(net.features.conv0.weight)
    for name in ("norm0", "relu0", "pool0"):
        delattr(net.features, name)
    return net
