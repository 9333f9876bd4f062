"""Protocols: what a model can show.

A callback asks for one of these, and does nothing if the model does not implement it.
"""

from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from src.viz.canvases import Canvases


@runtime_checkable
class CanSample(Protocol):
    """A model that generates images from noise."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n images (n, C, H, W) in [0, 1]."""


@runtime_checkable
class CanInterpolate(Protocol):
    """A model that interpolates between latents."""

    def interpolate(self, n: int, steps: int, generator: torch.Generator) -> Tensor:
        """Return n sequences of `steps` images, one after the other.

        Their shape is (n * steps, C, H, W), their range [0, 1].
        """


@runtime_checkable
class CanReconstruct(Protocol):
    """A model that reconstructs images."""

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

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n random z, as in training; a conditional model appends a class to each."""

    def decode(self, z: Tensor) -> Tensor:
        """Return the images (n, C, H, W) in [0, 1] of z (n, latent_dim)."""


@runtime_checkable
class CanPaint(Protocol):
    """A model that draws its images step by step."""

    def canvases(
        self, n: int, generator: torch.Generator, images: Tensor | None = None
    ) -> Canvases:
        """Return the canvases of n samples, or of the reconstructions of `images`.

        `images` are (n, C, H, W) in [0, 1].
        """


@runtime_checkable
class HasImportanceWeights(Protocol):
    """A latent variable model that gives the importance weight of a latent."""

    def log_weights(self, x: Tensor, noise: torch.Generator) -> Tensor:
        """Return log p(x, z) - log q(z | x) of one random z per image, (B,), in nats.

        Args:
            x: (B, C, H, W) in [0, 1].
            noise: draws z; on the model's device.
        """


@runtime_checkable
class CanSampleClasses(Protocol):
    """A model that generates images of a class; num_classes says how many there are."""

    num_classes: int | None

    def sample(self, n: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """Return n images (n, C, H, W) in [0, 1] of the classes `labels` (n,)."""


@runtime_checkable
class CanTranslate(Protocol):
    """A model that turns images into other images."""

    def translate(self, images: Tensor, to: str = "b") -> Tensor:
        """Translate images (N, C, H, W) in [0, 1] into the same shape and range.

        `to` is the target domain, a or b, if there are two.
        """


@runtime_checkable
class CanCompare(Protocol):
    """A model that shows its results next to their sources.

    Attributes:
        compared: what each of the k pictures in a row is.
    """

    compared: tuple[str, ...]

    def compare(self, a: Tensor, b: Tensor, generator: torch.Generator) -> Tensor:
        """Return n rows of k pictures, (n, k, C, H, W) in [0, 1].

        Args:
            a, b: a batch of the model's data: images (n, C, H, W) in [0, 1] and their labels (n,),
                or images of two domains.
            generator: the source of all random numbers.
        """


@runtime_checkable
class CanClassify(Protocol):
    """A classifier of images (B, C, H, W) in [0, 1] with `num_classes` classes.

    Its validation and test steps return the `logits`. `counts`, (true, predicted), are those of the
    last evaluation.
    """

    num_classes: int
    counts: Tensor

    @property
    def measured_net(self) -> nn.Module:
        """Return the network that is evaluated: scaled images -> logits (B, num_classes)."""

    def scaled(self, x: Tensor) -> Tensor:
        """Scale images in [0, 1] as the network needs them."""


@runtime_checkable
class CanCompile(Protocol):
    """A model whose networks torch.compile can fuse, see `src.models.base.Family`."""

    compile_setting: bool | Literal["auto"]

    def compile_break_even(self) -> int | None:
        """Return the number of batches from which compiling saves time; None if it never does."""

    def should_compile(self, batches: float) -> bool:
        """Return whether to compile for a run of so many batches."""

    def compile_networks(self) -> None:
        """Compile the networks; a call of a network compiles what it runs."""
