"""A folder of one's own: a class a sub-folder, with or without train/val/test above them. Decoding of image files."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from src.data.base import ImageData, log
from src.data.cache import cached
from src.data.images import Images, ImageSet, Splits, chosen, cut_test
from src.errors import UserError
from src.files import images_below

LEVELS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
MEMORY_LIMIT = (
    4 * 2**30
)  # bytes of decoded images that `in_memory: auto` still keeps, and the cache on disk
VERSION = 2  # of `decode`: a new number, new cache entries


@dataclass
class FileSet(Dataset):
    """Images at rest in their files, decoded a batch at a time.

    Attributes:
        paths: N files; labels: (N,) int64; size, channels: what each image is brought to, (height, width).
    """

    paths: list[Path]
    labels: Tensor
    size: tuple[int, int]
    channels: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        images = [decode(self.paths[i], self.size, self.channels) for i in indices.tolist()]
        return torch.stack(images), self.labels[indices]

    def subset(self, indices: Tensor) -> "FileSet":
        """The files at `indices`."""
        return FileSet(
            [self.paths[i] for i in indices.tolist()],
            self.labels[indices],
            self.size,
            self.channels,
        )

    def key(self) -> str:
        """Sixteen hex digits that name what `decoded` returns: the files' paths, sizes and times, and what is made of them."""
        digest = hashlib.blake2b(repr((VERSION, self.size, self.channels)).encode(), digest_size=8)
        for path in self.paths:
            stat = path.stat()
            digest.update(f"{path.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        return digest.hexdigest()

    def decoded(self) -> Tensor:
        """All of them, decoded by a thread a core into (N, C, H, W) uint8."""
        images = torch.empty(len(self), self.channels, *self.size, dtype=torch.uint8)

        def put(i: int) -> None:
            images[i] = decode(self.paths[i], self.size, self.channels)

        with ThreadPoolExecutor() as pool:
            for _ in tqdm(
                pool.map(put, range(len(self))), "decoding", len(self), disable=None, leave=False
            ):
                pass
        return images


class Folder(ImageData):
    """root/CLASS/*.jpg, or root/{train,val,test}/CLASS/*.jpg, in any format that Pillow reads.

    Without a test level `test_size` images are cut for it, without a val level `val_size`; a size in [0, 1) is a fraction.

    Args:
        classes: names of sub-folders, labelled in this order and the only ones that are read; None: all.
        settings: of `ImageData`.
    """

    def __init__(self, classes: list[str | int] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.classes = classes

    def read(self) -> Splits:
        if not self.root.is_dir():
            raise UserError(
                f"data={self.name}: data.root={self.root} is not a folder; it should hold a sub-folder for each class"
            )
        if isinstance(self.classes, str):
            raise UserError(
                f"data.classes={self.classes} is a choice of data=pets; of a folder, a list of its classes"
            )
        present = self.levels()
        known = _classes(present["train"])
        for level in present.values():
            if unknown := sorted(set(_classes(level)) - set(known)):
                raise UserError(
                    f"{level / unknown[0]}: no such class among the training folders ({', '.join(known)})"
                )
        self.found(known if self.classes is None else chosen(self.classes, known), present["train"])
        parts = dict(
            zip(
                present,
                at_rest(self, [self._files(level) for level in present.values()]),
                strict=True,
            )
        )
        if "test" in parts:
            return Splits(**parts)
        return replace(
            cut_test(parts["train"], self.test_size, self.split_seed, str(self.root)),
            val=parts.get("val"),
        )

    def levels(self) -> dict[str, Path]:
        """Where the class folders of `train`, and of `val` and `test` where there are such, lie."""
        present = {"train": self.root}
        for part, names in LEVELS.items():
            if there := [self.root / name for name in names if (self.root / name).is_dir()]:
                present[part] = there[0]
        return present

    def _files(self, top: Path) -> FileSet:
        paths: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(self.class_names):
            files = images_below(top / name)
            if not files:
                raise UserError(f"{top / name}: a class with no images")
            paths += files
            labels += [label] * len(files)
        return FileSet(paths, torch.tensor(labels), self.size, self.channels)


def at_rest(data: ImageData, parts: list[FileSet]) -> list[Images]:
    """The `parts` of a set as they are read from now on: decoded where that fits in memory; says what was chosen."""
    n = sum(len(part) for part in parts)
    needed = n * data.channels * data.size[0] * data.size[1]
    keep = needed <= MEMORY_LIMIT if data.in_memory == "auto" else bool(data.in_memory)
    log.info(
        "%s: %d images, %.1f MiB decoded: %s",
        data.root,
        n,
        needed / 2**20,
        "kept in memory"
        if keep
        else f"decoded as needed by {data.workers} workers (data.in_memory=true keeps them)",
    )
    if not keep:
        return list(parts)
    if data.cache is None or needed > MEMORY_LIMIT:
        return [ImageSet(part.decoded(), part.labels) for part in parts]
    paths = [data.cache / "decoded" / f"{data.name}-{part.key()}.pt" for part in parts]
    shape = (data.channels, *data.size)
    return [
        ImageSet(cached(path, (len(part), *shape), part.decoded), part.labels)
        for path, part in zip(paths, parts, strict=True)
    ]


def decode(path: Path, size: tuple[int, int] | None, channels: int) -> Tensor:
    """One image file -> (C, H, W) uint8: upright by its EXIF, scaled to cover (height, width) and centre cropped.

    size: None for its own. Raises UserError that names the file when Pillow cannot read it whole.
    """
    try:
        with Image.open(path) as image:
            upright = _in_bytes(ImageOps.exif_transpose(image)).convert(
                "RGB" if channels == 3 else "L"
            )
        array = np.asarray(
            upright
            if size is None
            else ImageOps.fit(upright, (size[1], size[0]), Image.Resampling.BILINEAR)
        )
    except Exception as error:  # Pillow's plugins raise whatever their decoder raises
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise UserError(f"{path} is not a readable image ({reason})") from error
    return torch.from_numpy(array.copy()).view(*array.shape[:2], channels).permute(2, 0, 1)


def _in_bytes(image: Image.Image) -> Image.Image:
    """`image` with values that Pillow converts as they are meant: it would clip those of more than eight bits."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(
            f"its values are of mode {image.mode}, which does not say what is black and white; 8 or 16 bits do"
        )
    return image


def _classes(top: Path) -> list[str]:
    names = sorted(p.name for p in top.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise UserError(
            f"{top} holds no class folders: it should hold a sub-folder of images for each class"
        )
    return names
