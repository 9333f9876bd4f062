"""What a model can show: a callback asks for one of these and is silent where a model lacks it."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from src.viz.grids import Canvases


@runtime_checkable
class CanSample(Protocol):
    """A model that draws images from nothing."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n images (n, C, H, W) in [0, 1]."""


@runtime_checkable
class CanInterpolate(Protocol):
    """A model that walks from one latent to another."""

    def interpolate(self, n: int, steps: int, generator: torch.Generator) -> Tensor:
        """n walks of `steps` images, (n * steps, C, H, W) in [0, 1], a walk after a walk."""


@runtime_checkable
class CanReconstruct(Protocol):
    """A model that makes images again from its own code of them."""

    def reconstruct(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the reconstructions of `images` (n, C, H, W) in [0, 1], the same shape and range.

        Anything random comes from `generator`, a CPU one.
        """


@runtime_checkable
class CanEncode(Protocol):
    """A model that maps an image to one vector."""

    latent_dim: int

    def encode(self, images: Tensor) -> Tensor:
        """Return z (n, latent_dim) of `images` (n, C, H, W) in [0, 1]."""


@runtime_checkable
class CanDecode(Protocol):
    """A model that maps one vector to an image."""

    latent_dim: int

    def decode(self, z: Tensor) -> Tensor:
        """Return the images (n, C, H, W) in [0, 1] of z (n, latent_dim)."""


@runtime_checkable
class CanPaint(Protocol):
    """A model whose images grow step by step."""

    def canvases(
        self, n: int, generator: torch.Generator, images: Tensor | None = None
    ) -> Canvases:
        """How n samples grow, or the reconstructions of `images` (n, C, H, W) in [0, 1]."""


@runtime_checkable
class CanWeigh(Protocol):
    """A latent variable model that gives the importance weight of a latent."""

    def log_weights(self, x: Tensor, noise: torch.Generator) -> Tensor:
        """Return log p(x, z) - log q(z | x) of one random z per image, (B,), in nats.

        Args:
            x: (B, C, H, W) in [0, 1].
            noise: draws z; on the model's device.
        """


@runtime_checkable
class CanSampleClasses(Protocol):
    """A model that draws images of a class, where num_classes says how many there are."""

    num_classes: int | None

    def sample(self, n: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """n images (n, C, H, W) in [0, 1] of `labels` (n,)."""


@runtime_checkable
class CanTranslate(Protocol):
    """A model that makes an image of an image."""

    def translate(self, images: Tensor, to: str = "b") -> Tensor:
        """Images (N, C, H, W) in [0, 1] -> likewise; `to`: into which of two domains, a or b, where there are two."""


@runtime_checkable
class CanCompare(Protocol):
    """A model that shows what it makes beside what it is made of."""

    def compared(self, a: Tensor, b: Tensor) -> Tensor:
        """Rows of k pictures, (n, k, C, H, W) in [0, 1]: images of a set of pairs, (n, C, H, W) likewise, and what is made of
        them."""


@runtime_checkable
class CanClassify(Protocol):
    """A model that says of images (B, C, H, W) in [0, 1] which of `num_classes` they are of; its measuring steps return the
    `logits`, and `counts`, (true, predicted), are those of the last evaluation."""

    num_classes: int
    counts: Tensor

    @property
    def measured_net(self) -> nn.Module:
        """Scaled images -> logits (B, num_classes), as it is measured."""

    def scaled(self, x: Tensor) -> Tensor:
        """Images in [0, 1] as the net wants them."""
