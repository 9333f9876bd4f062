"""Two domains of images, of which no image has a partner: what CycleGAN learns from."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from src.core.errors import UserError
from src.core.files import Scan, images_below, summary
from src.core.randomness import CounterRNG, generator
from src.core.types import PathText
from src.data.base import ImageData
from src.data.images import Images, ImageSet, Splits, split_off_test
from src.data.sets.folder import Folder, load_or_stream, make_file_set
from src.data.transforms.pixels import add_winter, to_float, to_uint8


@dataclass
class PairSet(Dataset):
    """Images of two domains side by side.

    Attributes:
        a, b: the domains' images.
        rows: (n, 2), which image of each stands in a row. In training each column is shuffled for itself.
        first: (n, 2), whether an image stands in no row before: where one domain is smaller, its images come again.
    """

    a: Images
    b: Images
    rows: Tensor

    columns = 2  # that are shuffled

    @classmethod
    def align(cls, a: Images, b: Images) -> "PairSet":
        """As many rows as the larger domain has images; the smaller begins again."""
        n = torch.arange(max(len(a), len(b)) if len(a) and len(b) else 0)
        return cls(a, b, torch.stack([n % max(len(a), 1), n % max(len(b), 1)], 1))

    def __post_init__(self) -> None:
        self.labels = self.rows.new_full((len(self.rows),), -1)
        self.first = torch.stack([_first(column) for column in self.rows.unbind(1)], 1)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B, 2), one for each domain -> images of A and of B, (B, C, H, W) uint8.

        Rows (B,) are to be measured, each image once: fewer of the smaller domain, or none.
        """
        a, b = (
            places.unbind(1)
            if places.ndim == 2
            else (places[self.first[places, k]] for k in (0, 1))
        )
        return self.a[self.rows[a, 0]][0], self.b[self.rows[b, 1]][0]

    @property
    def nbytes(self) -> int | None:
        """What both domains take in memory, None where they lie in files."""
        return (
            self.a.nbytes + self.b.nbytes
            if isinstance(self.a, ImageSet) and isinstance(self.b, ImageSet)
            else None
        )

    def to(self, device: torch.device) -> "PairSet":
        """The set on `device`."""
        return replace(self, **{name: getattr(self, name).to(device) for name in ("a", "b")})

    def subset(self, indices: Tensor) -> "PairSet":
        """The rows at `indices`."""
        return replace(self, rows=self.rows[indices])


def _first(column: Tensor) -> Tensor:
    """Whether a number of (n,) stands nowhere before."""
    order = column.argsort(stable=True)
    ordered = column[order]
    first = torch.ones_like(column, dtype=torch.bool)
    first[order[1:]] = ordered[1:] != ordered[:-1]
    return first


class UnlabeledFolder(ImageData):
    """All image files in a folder and below it, without classes."""

    def read(self) -> Splits:
        files, left_out = self.scan
        (images,) = load_or_stream(
            self, [make_file_set(self, files, torch.full((len(files),), -1))], left_out
        )
        return split_off_test(images, self.test_size, self.split_seed, str(self.root))

    @cached_property
    def scan(self) -> Scan:
        """All files below the root."""
        return images_below(self.root)


class Unpaired(ImageData):
    """Photographs of domain A in root_a, of domain B in root_b, each cut into training, validation and test for itself.

    A batch is images of A and images of B, each in an order of its own. Augmentation changes both, each image by draws of its
    own; what mixes images mixes within the domain.

    Args:
        root_a, root_b: folders, read with all below them.
        settings: of `ImageData`; `train_size` and `limit` count pairs.

    Attributes:
        paired: is the image of B in a row of validation and test what that of A would be in B?
    """

    holds = "two domains of images"
    path_settings: ClassVar[tuple[str, ...]] = ("root_a", "root_b")
    refuses: ClassVar = {
        "permute": ((False,), "CycleGAN takes images as they are"),
        "binarize": ((False,), "CycleGAN takes images as they are"),
    }
    paired = False

    def __init__(self, root_a: PathText, root_b: PathText, **settings: Any) -> None:
        super().__init__(root=root_a, **settings)
        self.roots = (root_a, root_b)
        whole = {"limit": None, "train_size": None, "train_per_class": None}
        self.domain_settings = settings | {"root": root_a} | whole

    def read(self) -> Splits:
        sides = [UnlabeledFolder(**self.domain_settings | {"root": root}) for root in self.roots]
        for key, side in zip(("root_a", "root_b"), sides, strict=True):
            if not side.scan.images:
                why = summary(side.scan.left_out)
                raise UserError(
                    f"data.{key}={side.root} is no folder with images in it{f' ({why})' if why else ''}"
                )
        for side in sides:
            side.setup()
        train, test, val = (
            PairSet.align(*(getattr(side, part) for side in sides))
            for part in ("train", "test", "val")
        )
        return Splits(train=train, test=test, val=val)

    def eval_images(self, part: Images, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images of A and of B in the rows `indices`, (B, C, H, W) in [0, 1], on the CPU."""
        a, b = part[indices.unsqueeze(1).expand(-1, 2)]
        return to_float(a), to_float(b)

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, ...], dataloader_idx: int
    ) -> tuple[Tensor, Tensor]:
        """Two times (B, C, H, W) uint8 on the device -> float32 in [0, 1]."""
        a, b, *numbers = batch
        domains = [to_float(a), to_float(b)]
        if self.augment is not None and numbers:
            loop = cast(Any, self.trainer).fit_loop
            epoch, none = loop.epoch_progress.current.processed, torch.full((len(a),), -1)
            for k, domain in enumerate(("a", "b")):
                draws = CounterRNG(numbers[0][:, k], self.seed, "augment", domain, epoch)
                domains[k], _ = self.augment(domains[k], none, draws, None)
        return domains[0], domains[1]


class Winter(Unpaired):
    """A domain that is made up, so that the true translation is known: half of a folder's training images stay as they are,
    the other half is `add_winter`. No image is in both. Validation and test hold each image in both domains."""

    path_settings = ("root",)
    paired = True

    def __init__(self, root: PathText, **settings: Any) -> None:
        super().__init__(root_a=root, root_b=root, **settings)

    def read(self) -> Splits:
        if self.channels != 3:
            raise UserError(
                f"data.channels={self.channels}: winter is in the colours, of which there are 3"
            )
        source = Folder(**self.domain_settings | {"in_memory": True})
        source.setup()
        assert isinstance(source.train, ImageSet)
        order = torch.randperm(len(source.train), generator=generator(self.split_seed, "winter"))
        halves = [source.train.subset(half.sort().values) for half in order.chunk(2)]
        train = PairSet.align(halves[0], _in_winter(halves[1]))
        test, val = (PairSet.align(part, _in_winter(part)) for part in (source.test, source.val))
        return Splits(train=train, test=test, val=val)


def _in_winter(part: Images) -> ImageSet:
    assert isinstance(part, ImageSet)
    batches = [to_uint8(add_winter(to_float(images))) for images in part.images.split(1000)]
    return replace(part, images=torch.cat(batches))
