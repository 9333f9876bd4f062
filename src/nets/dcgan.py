"""Convolutional generators and discriminators of GANs.

At 28 x 28, the generator is InfoGAN's and the discriminator is a small one with max pooling, as in
common tutorials on MNIST. At powers of two, both are Radford's.

Images are (B, C, H, W) in [-1, 1], latents (B, latent_dim), logits (B, 1). With num_classes,
one-hot labels are appended to both (Mirza 2014): latents (B, latent_dim + num_classes), images
(B, C + num_classes, H, W).
"""

import math
from typing import Annotated, Literal

from torch import nn

from src.core.types import COUNTED, Advice, NonNegativeInt, PositiveInt

Side = Annotated[  # side of the images in pixels
    Literal[16, 28, 32, 64, 128, 256],
    Advice("model/net=fc takes any size"),
]


def generator(
    latent_dim: PositiveInt,
    channels: PositiveInt,
    size: Side,
    base_channels: PositiveInt = 64,
    num_classes: Annotated[NonNegativeInt, COUNTED] = 0,
) -> nn.Sequential:
    """Return `infogan_generator` at size 28, `radford_generator` at a power of two.

    `base_channels` has no effect at size 28.
    """
    latent_dim += num_classes
    if size == 28:
        return infogan_generator(latent_dim, channels)
    return radford_generator(latent_dim, channels, size, base_channels)


def discriminator(
    channels: PositiveInt,
    size: Side,
    base_channels: PositiveInt = 64,
    norm: Literal["batch", "layer", "none"] = "batch",
    num_classes: Annotated[NonNegativeInt, COUNTED] = 0,
) -> nn.Sequential:
    """Return `pooled_discriminator` at size 28, `radford_discriminator` at a power of two.

    `base_channels` and `norm` have no effect at size 28, where the network has no norm.
    """
    channels += num_classes
    if size == 28:
        return pooled_discriminator(channels)
    return radford_discriminator(channels, size, base_channels, norm)


def infogan_generator(latent_dim: int, channels: int) -> nn.Sequential:
    """Build InfoGAN's generator: FC 1024, FC 7*7*128, two transposed convolutions.

    ReLU before BatchNorm after each layer, tanh at the end (Chen 2016, appendix C.1).
    """
    return nn.Sequential(
        nn.Linear(latent_dim, 1024),
        nn.ReLU(),
        nn.BatchNorm1d(1024),
        nn.Linear(1024, 7 * 7 * 128),
        nn.ReLU(),
        nn.BatchNorm1d(7 * 7 * 128),
        nn.Unflatten(1, (128, 7, 7)),  # (B, 128, 7, 7)
        nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1),  # (B, 64, 14, 14)
        nn.ReLU(),
        nn.BatchNorm2d(64),
        nn.ConvTranspose2d(64, channels, 4, stride=2, padding=1),  # (B, C, 28, 28)
        nn.Tanh(),
    )


def pooled_discriminator(channels: int, slope: float = 0.01) -> nn.Sequential:
    """Build the discriminator for `infogan_generator`: two convolutions with pooling, two FC.

    InfoGAN's own has strided convolutions of 4 x 4 and BatchNorm (Chen 2016, appendix C.1).
    """
    return nn.Sequential(
        nn.Conv2d(channels, 32, 5),  # (B, 32, 24, 24)
        nn.LeakyReLU(slope),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5),  # (B, 64, 8, 8)
        nn.LeakyReLU(slope),
        nn.MaxPool2d(2),
        nn.Flatten(),  # (B, 1024)
        nn.Linear(4 * 4 * 64, 1024),
        nn.LeakyReLU(slope),
        nn.Linear(1024, 1),
    )


def radford_generator(
    latent_dim: int, channels: int, size: int, base_channels: int = 64
) -> nn.Sequential:
    """Build a generator in which each layer doubles the size and halves the channels.

    It starts from 4 x 4 pixels (Radford 2015, figure 1), with BatchNorm and ReLU after each layer
    and tanh at the end.

    Args:
        size: side of the images, a power of two, 16 or more; 64 in the paper.
        base_channels: channels of the last hidden layer; 128 in the paper, 64 in most code.
    """
    features = base_channels * 2 ** (_doublings(size) - 1)
    layers: list[nn.Module] = [
        nn.Unflatten(1, (latent_dim, 1, 1)),
        nn.ConvTranspose2d(latent_dim, features, 4, bias=False),  # (B, features, 4, 4)
        nn.BatchNorm2d(features),
        nn.ReLU(),
    ]
    while features > base_channels:
        layers += [
            nn.ConvTranspose2d(features, features // 2, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(features // 2),
            nn.ReLU(),
        ]
        features //= 2
    return nn.Sequential(
        *layers, nn.ConvTranspose2d(base_channels, channels, 4, stride=2, padding=1), nn.Tanh()
    )


def radford_discriminator(
    channels: int, size: int, base_channels: int = 64, norm: str = "batch"
) -> nn.Sequential:
    """Build a discriminator of strided 4 x 4 convolutions and LeakyReLU 0.2 (Radford 2015).

    All but the first and the last layer have a norm.

    Args:
        size: as in `radford_generator`.
        norm: `batch`, `layer` (for a gradient penalty, which is per sample: Gulrajani 2017,
            section 4) or `none`.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(channels, base_channels, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
    ]
    features = base_channels
    for _ in range(_doublings(size) - 1):
        layers.append(
            nn.Conv2d(features, features * 2, 4, stride=2, padding=1, bias=norm == "none")
        )
        features *= 2
        if norm == "batch":
            layers.append(nn.BatchNorm2d(features))
        elif norm == "layer":
            layers.append(nn.GroupNorm(1, features))
        layers.append(nn.LeakyReLU(0.2))
    return nn.Sequential(*layers, nn.Conv2d(features, 1, 4), nn.Flatten())  # (B, 1)


def _doublings(size: int) -> int:
    doublings = round(math.log2(size / 4))
    if doublings < 2 or 4 * 2**doublings != size:
        raise ValueError(
            f"Radford's networks need a side that is a power of two, 16 or more, not {size}"
        )
    return doublings
