"""VGG features for perceptual losses."""

from collections import OrderedDict
from itertools import takewhile
from typing import Literal

from torch import nn

from src.core.types import AnyLength, NonNegativeInt, PositiveInt
from src.nets.convnet import convnet


def perceptual(
    channels: PositiveInt,
    features: AnyLength[PositiveInt | Literal["M", "D"]],
    kernel: PositiveInt = 3,
    padding: NonNegativeInt = 1,
    norm: Literal["batch", "none"] = "none",
    pooling: Literal["max", "average"] = "max",
) -> nn.Sequential:
    """Build the convolutional part of `src.nets.convnet.convnet`, with the same layer names.

    Names are conv1, relu1, pool1 and so on, so VGG-19's conv4_2 is conv10. Maps images (B, C, H, W)
    to the last layer's feature maps (B, N, h, w).

    Args:
        channels: channels of the images.
        features, kernel, padding, norm: as in `convnet`.
        pooling: `max`, or `average`, which improves the gradient flow (Gatys 2015, section 2).
    """
    net = convnet(channels, 256, 1, features, kernel=kernel, padding=padding, norm=norm)
    layers = OrderedDict(takewhile(lambda named: named[0] != "flatten", net.named_children()))
    if pooling == "average":
        layers.update(
            (name, nn.AvgPool2d(2))
            for name, layer in layers.items()
            if isinstance(layer, nn.MaxPool2d)
        )
    return nn.Sequential(layers)
