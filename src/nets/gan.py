"""The pair of networks of a GAN."""

from dataclasses import dataclass

from torch import nn

from src.nets.init import Init, initialize, spectral_norm


@dataclass
class Networks:
    """The two networks of a GAN.

    Args:
        generator: z (B, latent_dim) -> images (B, C, H, W) in [-1, 1].
        discriminator: such images -> logits (B, 1).
        init: how the weights of both are initialized, see `src.nets.init`.
        spectral_norm: bound each layer of the discriminator to Lipschitz constant 1 (Miyato 2018).
    """

    generator: nn.Module
    discriminator: nn.Module
    init: Init = "default"
    spectral_norm: bool = False

    def __post_init__(self) -> None:
        initialize(self.generator, self.init)
        initialize(self.discriminator, self.init)
        if self.spectral_norm:
            spectral_norm(self.discriminator)
