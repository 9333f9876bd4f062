"""Images at rest, and how a set of them is cut: pure data, no Lightning."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from src.core.errors import UserError, near
from src.core.randomness import generator


class Images(Protocol):
    """Labelled images that are read a batch at a time: `ImageSet` in memory, `FileSet` (src.data.sets.folder) on disk."""

    labels: Tensor

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """A whole batch: indices (B,) -> images (B, C, H, W) uint8 and labels (B,) int64."""

    def subset(self, indices: Tensor) -> "Images":
        """The images at `indices`."""


@dataclass
class ImageSet(Dataset):
    """Images at rest.

    Attributes:
        images: (N, C, H, W) uint8.
        labels: (N,) int64; -1 where the set has none.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.labels[indices]

    def subset(self, indices: Tensor) -> "ImageSet":
        """The images at `indices`, copied."""
        return ImageSet(self.images[indices], self.labels[indices])

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return self.images.nbytes

    def to(self, device: torch.device) -> "ImageSet":
        """The set on `device`; itself where it is there already."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass
class WithIndex(Dataset):
    """`part`, each batch with the images' places in it."""

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
    """What a reader hands over: the official training and test images, and validation images where the source has them."""

    train: Images
    test: Images
    val: Images | None = None


def resolve_count(size: int | float, n: int) -> int:
    """`size` itself, or that fraction of `n` where it is below 1."""
    return round(size * n) if 0 < size < 1 else int(size)


def resolve_classes(
    given: Sequence[str | int], names: Sequence[str], plain: Callable[[str], str] = str
) -> list[str]:
    """Those of the classes `names` that data.classes asks for by `given`, in its order, as `names` write them.

    Args:
        plain: a name -> what is compared of it.
    """
    known = {plain(name): name for name in names}
    words = [str(word) for word in given]  # a name of digits comes as a number
    for word in words:
        if plain(word) not in known:
            raise UserError(
                f"data.classes: {word} is none of the classes {', '.join(names)}{near(plain(word), list(known))}"
            )
    found = [known[plain(word)] for word in words]
    if len(set(found)) < len(found):
        raise UserError(f"data.classes=[{', '.join(words)}]: a class stands there twice")
    return found


def first_of_each_class(labels: Tensor, per_class: int, class_names: Sequence[str]) -> Tensor:
    """Indices of the first `per_class` images of each class, by labels (N,); raises UserError where a class has fewer."""
    if not class_names:
        raise UserError(
            f"data.train_per_class={per_class} takes images with labels; data.train_size takes any"
        )
    of_class = [(labels == k).nonzero().flatten() for k in range(len(class_names))]
    name, fewest = min(zip(class_names, map(len, of_class), strict=True), key=lambda pair: pair[1])
    if fewest < per_class:
        raise UserError(
            f"data.train_per_class={per_class}: of {name} there are {fewest} images to train on"
        )
    return torch.cat([indices[:per_class] for indices in of_class])


def stratified_split(labels: Tensor, order: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Draw `n` images, of each class its share, rounded by largest remainders; images without labels are one class.

    Args:
        labels: (N,), of all images.
        order: (M,), indices of the images to draw from, shuffled: of each class the first are drawn.
        n: from 0 to M.

    Returns:
        The indices that are drawn, (n,), and the others, both in the order of `order`. A class gives its last image only where
        it must.
    """
    classes, place, sizes = labels[order].unique(return_inverse=True, return_counts=True)
    shares = sizes.double() * n / max(len(order), 1)
    quotas = shares.floor().long()
    by_remainder = sorted(
        range(len(classes)),
        key=lambda k: (bool(quotas[k] + 1 >= sizes[k]), float(quotas[k] - shares[k]), k),
    )
    quotas[by_remainder[: n - int(quotas.sum())]] += 1
    drawn = torch.zeros(len(order), dtype=torch.bool)
    for k, quota in enumerate(quotas.tolist()):
        drawn[(place == k).nonzero().flatten()[:quota]] = True
    return order[drawn], order[~drawn]


def missing_classes(parts: dict[str, Images], class_names: Sequence[str]) -> str:
    """Return which classes have no image in which of `parts`, by their names, as 'test: cats, dogs'; '' where none."""
    words = []
    for name, part in parts.items():
        have = set(part.labels.tolist())
        if not have or -1 in have:
            continue
        lost = [word for k, word in enumerate(class_names) if k not in have]
        more = [f"{len(lost) - 10} more"] if len(lost) > 10 else []
        words += [f"{name}: {', '.join([*lost[:10], *more])}"] if lost else []
    return "; ".join(words)


def stratified_sample(labels: Tensor, n: int | None, *seed: int | str) -> Tensor:
    """Draw at most `n` images by `seed`, of each class its share; return their indices in ascending order.

    Args:
        labels: (N,), of all images.
        n: how many stand for all of them; None: all.
    """
    order = torch.randperm(len(labels), generator=generator(*seed))
    return stratified_split(labels, order, min(len(labels), n or len(labels)))[0].sort().values


def split_off_test(part: Images, test_size: int | float, split_seed: int, name: str) -> Splits:
    """Cut a test set from a source that has none, by a fixed seed, of each class its share; none where `test_size` is 0."""
    n_test = resolve_count(test_size, len(part))
    if (n_test == 0 and test_size > 0) or n_test >= len(part):
        raise UserError(
            f"data.test_size={test_size} does not fit {name}: it has {len(part)} images in all"
        )
    order = torch.randperm(len(part), generator=generator(split_seed, "test"))
    test, train = stratified_split(part.labels, order, n_test)
    return Splits(train=part.subset(train.sort().values), test=part.subset(test.sort().values))
