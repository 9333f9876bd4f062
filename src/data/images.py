"""Sets of images in memory, and the interface that sets on disk share with them."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from src.core.transfer import to_device

CHUNK = 2**20  # pixels that are read at once where only their sum is needed
EVAL_PIXELS, MAX_EVAL = 2**22, 500  # pixels and images in a batch of validation or test, at most


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
        is_resized: whether the images have the size, crop and channels of `data` already.
    """

    images: Tensor
    labels: Tensor
    is_resized: bool = False

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        indices = to_device(indices, self.images.device)
        return self.images[indices], self.labels[indices]

    def subset(self, indices: Tensor) -> "ImageSet":
        """Return a copy of the images at `indices`; the set itself if they are all, in order."""
        if torch.equal(indices, torch.arange(len(self))):
            return self
        return replace(self, images=self.images[indices], labels=self.labels[indices])

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


def fitting_batch(size: tuple[int, int]) -> int:
    """Return how many images of `size` (height, width) to evaluate at once.

    Networks need more memory for large images: 500 of 32 x 32 pixels, but 83 of 224 x 224.
    """
    return max(1, min(MAX_EVAL, EVAL_PIXELS // (size[0] * size[1])))


def channel_sums(part: Images, indices: Tensor) -> Tensor:
    """Return the sums of each channel's values and of their squares, (2, C) int64.

    Args:
        part: images (N, C, H, W) uint8.
        indices: (B,), of the images that are summed.
    """
    values = part[indices][0].to(torch.int32)
    return torch.stack([values.sum((0, 2, 3)), values.square_().sum((0, 2, 3))])


def channel_moments(part: Images, pixels: int, binarized: bool = False) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel, over pixels scaled to [0, 1].

    Args:
        part: images (N, C, H, W) uint8.
        pixels: H * W.
        binarized: the deviation is that of pixels that are 1 with the probability of their value,
            else 0.

    Returns:
        Two tensors (C,) float64. The deviation of a constant channel is 1, so that dividing by it
        does nothing.
    """
    chunks = torch.arange(len(part)).split(max(1, CHUNK // pixels))
    if hasattr(part, "channel_sums"):  # in files
        total, squares = part.channel_sums(chunks)
    else:
        total, squares = torch.stack([channel_sums(part, chunk) for chunk in chunks]).sum(0)
    n = len(part) * pixels
    mean = total.double() / (255 * n)
    squared = mean if binarized else squares.double() / (255 * 255 * n)
    std = (squared - mean.square()).clamp(min=0).sqrt()
    return mean, torch.where(std < 1 / 1024, 1.0, std)
