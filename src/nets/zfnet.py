"""ZFNet: an improved AlexNet (Zeiler & Fergus 2014)."""

from torch import nn

from src.core.types import Counted, Fraction, PositiveInt


def zfnet(channels: PositiveInt, num_classes: Counted, dropout: Fraction = 0.5) -> nn.Sequential:
    """Build ZFNet.

    It is an AlexNet whose first layer is 7 x 7 with stride 2, with 512, 1024 and 512 filters in
    conv3 to conv5.

    As in torchvision's AlexNet, the last pooling yields 6 x 6 for any input size, and there is no
    local response normalization.

    Args:
        channels: channels of the images.
        num_classes: number of classes.
        dropout: rate before each of the two hidden layers.

    Returns:
        Images (B, C, H, W), 224 x 224 in the paper -> logits (B, num_classes).
    """
    net = nn.Sequential()
    shapes = [(96, 7, 2, 1), (256, 5, 2, 0), (512, 3, 1, 1), (1024, 3, 1, 1), (512, 3, 1, 1)]
    for number, (filters, kernel, stride, padding) in enumerate(shapes, 1):
        net.add_module(f"conv{number}", nn.Conv2d(channels, filters, kernel, stride, padding))
        net.add_module(f"relu{number}", nn.ReLU())
        if number in (1, 2, 5):
            net.add_module(f"pool{number}", nn.MaxPool2d(3, 2, ceil_mode=True))
        channels = filters
    net.add_module("pool", nn.AdaptiveAvgPool2d(6))
    net.add_module("flatten", nn.Flatten())
    for number, n_in in ((6, 512 * 6 * 6), (7, 4096)):
        net.add_module(f"dropout{number}", nn.Dropout(dropout))
        net.add_module(f"fc{number}", nn.Linear(n_in, 4096))
        net.add_module(f"relu{number}", nn.ReLU())
    net.add_module("fc8", nn.Linear(4096, num_classes))
    return net
