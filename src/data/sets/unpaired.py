"""Two domains of images without pairs, from which CycleGAN learns."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from src.core.errors import UserError
from src.core.image_files import Scan, images_below, summary
from src.core.pixels import to_float, to_uint8
from src.core.randomness import CounterRNG, generator
from src.core.types import InputPath
from src.data.image_data import ImageData
from src.data.images import Images, ImageSet, Splits
from src.data.sets.files import load_or_stream, make_file_set
from src.data.sets.folder import Folder
from src.data.splits import listing, split_off_test
from src.data.transforms.augment import Augment
from src.data.transforms.pixels import add_winter


@dataclass
class PairSet(Dataset[Any]):
    """Images of two domains, side by side in rows.

    Attributes:
        a, b: the images of the domains.
        rows: (n, 2), the index in `a` and in `b` of each row. Training shuffles each column on its
            own.
        first: (n, 2) bool, whether this is the first row with that image. If one domain is smaller,
            its images occur in several rows.
    """

    a: Images
    b: Images
    rows: Tensor

    columns = 2  # read by `EpochSampler`

    @classmethod
    def align(cls, a: Images, b: Images) -> "PairSet":
        """Make one row per image of the larger domain; the smaller one is repeated."""
        n = torch.arange(max(len(a), len(b)) if len(a) and len(b) else 0)
        return cls(a, b, torch.stack([n % max(len(a), 1), n % max(len(b), 1)], 1))

    def __post_init__(self) -> None:
        self.labels = self.rows.new_full((len(self.rows),), -1)
        self.first = torch.stack([_first_occurrence(column) for column in self.rows.unbind(1)], 1)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return images of A and of B, each (B, C, H, W) uint8.

        Args:
            rows: (B, 2) in training, a row for each domain. (B,) in evaluation, where each image
                counts once: the batch then has fewer images of the smaller domain, or none.
        """
        if rows.ndim == 2:
            rows_a, rows_b = rows.unbind(1)
        else:
            rows_a, rows_b = (rows[self.first[rows, k]] for k in (0, 1))
        return self.a[self.rows[rows_a, 0]][0], self.b[self.rows[rows_b, 1]][0]

    @property
    def nbytes(self) -> int | None:
        """Size of both domains in bytes; None if they are read from files."""
        if isinstance(self.a, ImageSet) and isinstance(self.b, ImageSet):
            return self.a.nbytes + self.b.nbytes
        return None

    def to(self, device: torch.device) -> "PairSet":
        """Return the set on `device`."""
        return replace(self, **{name: getattr(self, name).to(device) for name in ("a", "b")})

    def subset(self, indices: Tensor) -> "PairSet":
        """Return the rows at `indices`."""
        return replace(self, rows=self.rows[indices])


def _first_occurrence(column: Tensor) -> Tensor:
    """Return for each number of (n,) whether it does not occur before."""
    order = column.argsort(stable=True)
    ordered = column[order]
    first = torch.ones_like(column, dtype=torch.bool)
    first[order[1:]] = ordered[1:] != ordered[:-1]
    return first


class UnlabeledFolder(ImageData):
    """All image files in a folder and below it, without classes.

    Attributes:
        n_other: number of images of the other domain.
    """

    labeled = False
    n_other = 0

    def read(self) -> Splits:
        paths, left_out = self.scan
        files = make_file_set(self, paths, torch.full((len(paths),), -1))
        (images,) = load_or_stream(self, [files], left_out, self.n_other)
        self.pool = self.training_files = listing(paths, self.root, len(images))
        return split_off_test(images, self.test_size, self.split_seed, str(self.root))

    @cached_property
    def scan(self) -> Scan:
        """All files below the root."""
        return images_below(self.root)


class Unpaired(ImageData):
    """Photographs of domain A in root_a and of domain B in root_b, each domain split separately.

    A batch holds images of A and images of B, each in its own order. Augmentation changes the
    images of both domains independently; mixing stays inside a domain.

    Args:
        root_a, root_b: folders, read with all that is below them.
        settings: settings of `ImageData`; `train_size` and `limit` count pairs.

    Attributes:
        paired: whether the images of a row in validation and test are translations of each other.
    """

    holds = "two domains of images"
    labeled = False
    supports: ClassVar = {
        "permute": ((False,), "CycleGAN takes images as they are"),
        "binarize": ((False,), "CycleGAN takes images as they are"),
    }
    paired = False

    def __init__(self, root_a: InputPath, root_b: InputPath, **settings: Any) -> None:
        super().__init__(root=root_a, **settings)
        self.roots = (root_a, root_b)
        everything = {"limit": None, "train_size": None, "train_per_class": None}
        self.domain_settings = settings | {"root": root_a} | everything

    def read(self) -> Splits:
        domains = [UnlabeledFolder(**self.domain_settings | {"root": root}) for root in self.roots]
        for key, domain in zip(("root_a", "root_b"), domains, strict=True):
            if not domain.scan.images:
                reasons = summary(domain.scan.left_out)
                hint = f" ({reasons})" if reasons else ""
                raise UserError(f"data.{key}={domain.root} is not a folder with images{hint}")
        for domain, other in zip(domains, reversed(domains), strict=True):
            domain.n_other = len(other.scan.images)
            domain.setup()
        self.pool = self.training_files = " and ".join(str(domain.pool) for domain in domains)
        train, test, val = (
            PairSet.align(*(getattr(domain, part) for domain in domains))
            for part in ("train", "test", "val")
        )
        return Splits(train=train, test=test, val=val)

    def eval_images(self, part: Images, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images of A and of B at the rows `indices`, (B, C, H, W) in [0, 1], on the CPU."""
        a, b = part[indices.unsqueeze(1).expand(-1, 2)]
        return to_float(a), to_float(b)

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, ...], dataloader_idx: int
    ) -> tuple[Tensor, Tensor]:
        """Convert both domains (B, C, H, W) from uint8 to float32 in [0, 1], and augment them."""
        a, b, *indices = batch
        return super().on_after_batch_transfer((a, to_float(b), *indices), dataloader_idx)

    def _augmented(
        self, augment: Augment, images: Tensor, labels: Tensor, indices: Tensor, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Augment the images of A and, in place of `labels`, of B; `indices` are (B, 2)."""
        domains, no_labels = [images, labels], torch.full((len(images),), -1)
        for k, domain in enumerate(("a", "b")):
            rng = CounterRNG(indices[:, k], self.seed, "augment", domain, epoch=epoch)
            domains[k], _ = augment(domains[k], no_labels, rng, None)
        return domains[0], domains[1]


class Winter(Unpaired):
    """Photographs with and without a synthetic winter effect: the true translation is known.

    Half of a folder's training images stay as they are, the other half goes through `add_winter`;
    no image is in both. Validation and test hold each image in both domains.

    Args:
        root: a folder as `Folder` takes it.
        settings: settings of `ImageData`.
    """

    supports: ClassVar = {
        "permute": ((False,), "CycleGAN takes images as they are"),
        "binarize": ((False,), "CycleGAN takes images as they are"),
        "channels": ((3,), "the winter effect takes color from its images"),
        "in_memory": (("auto", True), "the winter effect is computed once, in memory"),
    }
    paired = True

    def __init__(self, root: InputPath, **settings: Any) -> None:
        super().__init__(root_a=root, root_b=root, **settings)

    def read(self) -> Splits:
        if min(self.size) < 7:
            raise UserError(
                f"data.size={list(self.size)}: data=winter blurs over 6 pixels in each direction, "
                "so its images need sides of at least 7"
            )
        source = Folder(**self.domain_settings | {"in_memory": True})
        source.setup()
        self.pool, self.training_files = source.pool, source.training_files
        assert isinstance(source.train, ImageSet)
        if len(source.train) < 2:
            raise UserError(
                f"data=winter needs two training images, one for each domain: {self.root} leaves "
                "only one"
            )
        order = torch.randperm(len(source.train), generator=generator(self.split_seed, "winter"))
        halves = [source.train.subset(half.sort().values) for half in order.chunk(2)]
        train = PairSet.align(halves[0], _in_winter(halves[1]))
        test, val = (PairSet.align(part, _in_winter(part)) for part in (source.test, source.val))
        return Splits(train=train, test=test, val=val)


def _in_winter(part: Images) -> ImageSet:
    assert isinstance(part, ImageSet)
    batches = [to_uint8(add_winter(to_float(images))) for images in part.images.split(1000)]
    return replace(part, images=torch.cat(batches))
