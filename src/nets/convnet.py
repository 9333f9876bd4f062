"""Feed-forward networks as a sequence of layers: `fc`, `cnn`, `lenet`, `vgg` and `petnet`."""

from collections import Counter, OrderedDict
from typing import Literal

from torch import nn

from src.core.types import (
    AnyLength,
    Counted,
    Fraction,
    ImageSize,
    NonNegativeInt,
    Pair,
    PositiveInt,
    height_width,
)
from src.nets.init import Init, initialize
from src.nets.winograd import Conv2d


def convnet(
    channels: PositiveInt,
    size: ImageSize,
    num_classes: Counted,
    features: AnyLength[PositiveInt | Literal["M", "D"]] = (),
    hidden_dims: AnyLength[PositiveInt] = (),
    kernel: PositiveInt = 3,
    padding: NonNegativeInt = 0,
    norm: Literal["batch", "none"] = "none",
    dropout: Fraction | Pair[Fraction] = 0.0,
    init: Init = "default",
) -> nn.Sequential:
    """Build convolutions, then fully connected layers, with a ReLU after all but the last.

    Args:
        channels: channels of the images.
        size: side or (height, width) of the images.
        num_classes: number of classes.
        features: a number is a convolution with that many filters, `M` a 2 x 2 max pooling, `D` a
            dropout.
        hidden_dims: widths of the fully connected layers before the last.
        kernel, padding: kernel size and padding of every convolution.
        norm: `batch` adds BatchNorm between each convolution and its ReLU; `none` adds nothing.
        dropout: the rates of `D` and after the hidden layers; one number for both.
        init: initialization of the weights, see `initialize`.

    Returns:
        Images (B, C, H, W) -> logits (B, num_classes).

    Raises:
        ValueError: the images are too small for the features, or there is no convolution for
            `norm`.
    """
    if norm != "none" and not any(isinstance(feature, int) for feature in features):
        raise ValueError(f"norm={norm} has no effect without convolutions in features")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    numbers: Counter[str] = Counter()

    def add(kind: str, layer: nn.Module) -> None:
        numbers[kind] += 1
        layers[f"{kind}{numbers[kind]}"] = layer

    feature_dropout, hidden_dropout = (
        (dropout, dropout) if isinstance(dropout, (int, float)) else dropout
    )
    height, width = height_width(size)
    for feature in features:
        if feature == "M":
            add("pool", nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        elif feature == "D":
            add("dropout", nn.Dropout(feature_dropout))
        else:
            add("conv", Conv2d(channels, int(feature), kernel, padding=padding))
            if norm == "batch":
                add("norm", nn.BatchNorm2d(int(feature)))
            add("relu", nn.ReLU())
            channels, height, width = (
                int(feature),
                height + 2 * padding - kernel + 1,
                width + 2 * padding - kernel + 1,
            )
        if min(height, width) < 1:
            raise ValueError(f"images of {size} are too small")
    layers["flatten"] = nn.Flatten()
    n_in = channels * height * width
    for n_out in hidden_dims:
        add("fc", nn.Linear(n_in, n_out))
        add("relu", nn.ReLU())
        if hidden_dropout:
            add("dropout", nn.Dropout(hidden_dropout))
        n_in = n_out
    add("fc", nn.Linear(n_in, num_classes))
    net = nn.Sequential(layers)
    initialize(net, init)
    return net
