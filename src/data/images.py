"""Sets of images in memory, and the interface that sets on disk share with them."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset


class Images(Protocol):
    """Labeled images that are read a batch at a time.

    `ImageSet` holds them in memory, `FileSet` (src.data.sets.files) reads them from disk.
    """

    labels: Tensor

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images (B, C, H, W) uint8 and labels (B,) int64 at indices (B,)."""

    def subset(self, indices: Tensor) -> "Images":
        """Return the images at `indices`."""


@dataclass
class ImageSet(Dataset[Any]):
    """Images in memory.

    Attributes:
        images: (N, C, H, W) uint8.
        labels: (N,) int64; -1 where an image has none.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.labels[indices]

    def subset(self, indices: Tensor) -> "ImageSet":
        """Return a copy of the images at `indices`; the set itself if they are all, in order."""
        if torch.equal(indices, torch.arange(len(self))):
            return self
        return ImageSet(self.images[indices], self.labels[indices])

    @property
    def nbytes(self) -> int:
        """Size of the images in bytes."""
        return self.images.nbytes

    def to(self, device: torch.device) -> "ImageSet":
        """Return the set on `device`, without a copy if it is there already."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass
class WithIndex(Dataset[Any]):
    """A set whose batches also carry the index of each image: (images, labels, indices)."""

    part: Images

    def __len__(self) -> int:
        return len(self.part)

    @property
    def columns(self) -> int:
        return getattr(self.part, "columns", 1)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (*self.part[indices], indices)


@dataclass
class Splits:
    """The official sets of a source; `val` is None if it has no validation set."""

    train: Images
    test: Images
    val: Images | None = None


def evenly_spaced(n: int, limit: int | None) -> Tensor:
    """Return at most `limit` of the indices 0..n - 1, evenly spaced.

    For pictures only: they represent the set no better than its order does. For measurements use
    `src.data.splits.stratified_sample`.
    """
    few = min(n, limit or n)
    return torch.arange(few) * n // max(few, 1)


def channel_moments(part: Images, channels: int, pixels: int) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel, over pixels scaled to [0, 1].

    Args:
        part: images (N, C, H, W) uint8.
        channels: C.
        pixels: H * W.

    Returns:
        Two tensors (C,) float64. The deviation of a constant channel is 1, so that dividing by it
        does nothing.
    """
    n = 0
    total = torch.zeros(channels, dtype=torch.float64)
    squares = torch.zeros(channels, dtype=torch.float64)
    per_part = max(1, 2**22 // pixels)  # bounds memory
    for indices in torch.arange(len(part)).split(per_part):
        values = part[indices][0].double().div(255).transpose(0, 1).flatten(1)  # (C, B * H * W)
        n += values.shape[1]
        total = total + values.sum(1)
        squares = squares + values.square().sum(1)
    std = (squares / n - (total / n).square()).clamp(min=0).sqrt()
    return total / n, torch.where(std < 1 / 1024, 1.0, std)
