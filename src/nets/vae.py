"""Encoder and decoder of a variational auto-encoder, fully connected or convolutional.

Images x are (B, C, H, W) in [0, 1]; the encoder returns [mu, log sigma] (B, 2 * latent_dim), the
decoder maps z (B, latent_dim) to (B, C, H, W), any real number (logits, before a sigmoid).
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor, nn

from src.core.types import ImageSize, PositiveInt, height_width

Activation = Literal["tanh", "relu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


class Posterior(NamedTuple):
    """The encoder's q(z | x) = N(mu, sigma^2), diagonal; both (B, latent_dim), float32."""

    mu: Tensor
    log_sigma: Tensor


class EncoderDecoder(nn.Module):
    """Both networks of a VAE (Kingma & Welling 2013).

    Args:
        encoder: images (B, C, H, W) -> (B, 2 * latent_dim).
        decoder: z (B, latent_dim) -> (B, C, H, W).
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: Tensor) -> Posterior:
        """Return q(z | x) of images (B, C, H, W) in [0, 1]."""
        mu, log_sigma = self.encoder(x).float().chunk(2, dim=1)
        return Posterior(mu, log_sigma)

    def decode(self, z: Tensor) -> Tensor:
        """Return the logits (B, C, H, W), float32, of z (B, latent_dim)."""
        return self.decoder(z).float()

    def forward(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits of z = mu + sigma * eps, mu and log sigma.

        Args:
            x: (B, C, H, W) in [0, 1].
            eps: (B, latent_dim) standard normal.
        """
        mu, log_sigma = self.encode(x)
        return self.decode(mu + log_sigma.exp() * eps), mu, log_sigma


def fc_encoder(
    channels: PositiveInt,
    size: ImageSize,
    latent_dim: PositiveInt,
    hidden_dims: Sequence[PositiveInt] = (500,),
    activation: Activation = "relu",
) -> nn.Sequential:
    """Return an MLP: images (B, C, H, W) -> (B, 2 * latent_dim)."""
    dims = [math.prod(_shape(channels, size)), *hidden_dims]
    return nn.Sequential(
        nn.Flatten(), *_hidden_layers(dims, activation), nn.Linear(dims[-1], 2 * latent_dim)
    )


def fc_decoder(
    channels: PositiveInt,
    size: ImageSize,
    latent_dim: PositiveInt,
    hidden_dims: Sequence[PositiveInt] = (500,),
    activation: Activation = "relu",
) -> nn.Sequential:
    """Return an MLP: z (B, latent_dim) -> (B, C, H, W).

    `hidden_dims` are the widths of the encoder; those of the decoder are in reverse order.
    """
    shape, dims = _shape(channels, size), [latent_dim, *reversed(hidden_dims)]
    return nn.Sequential(
        *_hidden_layers(dims, activation),
        nn.Linear(dims[-1], math.prod(shape)),
        nn.Unflatten(1, shape),
    )


def conv_encoder(
    channels: PositiveInt,
    size: ImageSize,
    latent_dim: PositiveInt,
    base_channels: PositiveInt = 32,
    hidden_dim: PositiveInt = 256,
) -> nn.Sequential:
    """Return three 3 x 3 convolutions of stride 2 and one hidden layer, all with ReLU.

    Args:
        base_channels: output channels of the first convolution; the others have twice this number.
        hidden_dim: width of the fully connected layer.
    """
    shapes = _conv_shapes(channels, size, base_channels)
    layers: list[nn.Module] = []
    for (n_in, *_), (n_out, *_) in itertools.pairwise(shapes):
        layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(math.prod(shapes[-1]), hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, 2 * latent_dim),
    )


def conv_decoder(
    channels: PositiveInt,
    size: ImageSize,
    latent_dim: PositiveInt,
    base_channels: PositiveInt = 32,
    hidden_dim: PositiveInt = 256,
) -> nn.Sequential:
    """Return the reverse of `conv_encoder`, with transposed convolutions: z -> (B, C, H, W)."""
    shapes = _conv_shapes(channels, size, base_channels)[::-1]
    layers: list[nn.Module] = []
    for (n_in, height, width), (n_out, *target) in itertools.pairwise(shapes):
        # without output_padding a side n becomes 2 n - 1
        extra = (target[0] - 2 * height + 1, target[1] - 2 * width + 1)
        layers += [
            nn.ReLU(),
            nn.ConvTranspose2d(n_in, n_out, 3, stride=2, padding=1, output_padding=extra),
        ]
    return nn.Sequential(
        nn.Linear(latent_dim, hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, math.prod(shapes[0])),
        nn.Unflatten(1, shapes[0]),
        *layers,
    )


def _shape(channels: int, size: ImageSize) -> tuple[int, int, int]:
    return channels, *height_width(size)


def _hidden_layers(dims: Sequence[int], activation: str) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(dims):
        layers += [nn.Linear(n_in, n_out), ACTIVATIONS[activation]()]
    return layers


def _conv_shapes(channels: int, size: ImageSize, base_channels: int) -> list[tuple[int, int, int]]:
    """Return the shapes (C, H, W) of the image and after each of three convolutions of stride 2."""
    shapes = [_shape(channels, size)]
    for n in (base_channels, 2 * base_channels, 2 * base_channels):
        _, height, width = shapes[-1]
        shapes.append((n, (height + 1) // 2, (width + 1) // 2))
    return shapes
