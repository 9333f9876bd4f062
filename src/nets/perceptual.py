"""The convolutions of a VGG as a measure of what pictures are alike in."""

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
    """The features of `src.nets.convnet.convnet`, its layers by the names that they have there: conv1, relu1, pool1, ...

    Images (B, C, H, W) of any size that leaves something behind the poolings -> the last layer's maps. VGG-19's conv4_2 is its
    tenth convolution, conv10 here.

    Args:
        pooling: `max`, or `average`, with which Gatys 2015 (section 2) found the gradient to flow better.
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
