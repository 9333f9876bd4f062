"""A folder of one's own: a class a sub-folder, with or without train/val/test above them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from src.data.base import ImageData, ImageSet, Splits, cut_test, log
from src.errors import UserError

LEVELS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
MEMORY_LIMIT = 4 * 2**30  # bytes of decoded images that `in_memory: auto` still keeps


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
        return FileSet([self.paths[i] for i in indices.tolist()], self.labels[indices], self.size, self.channels)

    def decoded(self) -> ImageSet:
        """All of them, decoded by a thread a core into (N, C, H, W) uint8."""
        images = torch.empty(len(self), self.channels, *self.size, dtype=torch.uint8)

        def put(i: int) -> None:
            images[i] = decode(self.paths[i], self.size, self.channels)

        with ThreadPoolExecutor() as pool:
            for _ in tqdm(pool.map(put, range(len(self))), "decoding", len(self), disable=None, leave=False):
                pass
        return ImageSet(images, self.labels)


class Folder(ImageData):
    """root/CLASS/*.jpg, or root/{train,val,test}/CLASS/*.jpg, in any format that Pillow reads.

    Without a test level `test_size` images are cut for it, without a val level `val_size`; a size in [0, 1) is a fraction.
    """

    def read(self) -> Splits:
        if not self.root.is_dir():
            raise UserError(f"data=folder: data.root={self.root} is not a folder; it should hold a sub-folder for each class")
        levels = {
            part: next((self.root / name for name in names if (self.root / name).is_dir()), None)
            for part, names in LEVELS.items()
        }
        top = levels["train"] or self.root
        self.class_names = _classes(top)
        if self.num_classes not in (None, len(self.class_names)):
            raise UserError(f"data.num_classes={self.num_classes}, but {top} holds {len(self.class_names)} class folders")
        self.num_classes = len(self.class_names)
        train = self._files(top)
        val = self._files(levels["val"]) if levels["val"] else None
        if levels["test"]:
            return self._rest(Splits(train, self._files(levels["test"]), val))
        splits = cut_test(train, self.test_size, self.split_seed, str(self.root))
        return self._rest(Splits(splits.train, splits.test, val))

    def _rest(self, splits: Splits) -> Splits:
        """Decode where that fits in memory, and say what was chosen."""
        parts = [part for part in (splits.train, splits.test, splits.val) if isinstance(part, FileSet)]
        needed = sum(len(part) for part in parts) * self.channels * self.size[0] * self.size[1]
        keep = needed <= MEMORY_LIMIT if self.in_memory == "auto" else bool(self.in_memory)
        log.info(
            "%s: %d images, %.1f MiB decoded: %s",
            self.root,
            sum(len(part) for part in parts),
            needed / 2**20,
            "kept in memory" if keep else f"decoded as needed by {self.workers} workers (data.in_memory=true keeps them)",
        )
        if not keep:
            return splits
        decoded = [part.decoded() for part in parts]
        return Splits(decoded[0], decoded[1], decoded[2] if len(decoded) > 2 else None)

    def _files(self, top: Path) -> FileSet:
        unknown = sorted(set(_classes(top)) - set(self.class_names))
        if unknown:
            raise UserError(f"{top / unknown[0]}: no such class among the training folders ({', '.join(self.class_names)})")
        paths: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(self.class_names):
            files = sorted(p for p in (top / name).rglob("*") if p.is_file() and not p.name.startswith("."))
            if not files:
                raise UserError(f"{top / name}: a class with no images")
            paths += files
            labels += [label] * len(files)
        return FileSet(paths, torch.tensor(labels), self.size, self.channels)


def decode(path: Path, size: tuple[int, int], channels: int) -> Tensor:
    """One image file -> (C, H, W) uint8: upright by its EXIF, scaled to cover (height, width), centre cropped.

    Raises UserError that names the file when Pillow cannot read it whole.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB" if channels == 3 else "L")
        array = np.asarray(ImageOps.fit(upright, (size[1], size[0]), Image.Resampling.BILINEAR))
    except Exception as error:  # Pillow's plugins raise whatever their decoder raises
        raise UserError(f"{path} is not a readable image ({error})") from error
    return torch.from_numpy(array.copy()).view(*size, channels).permute(2, 0, 1)


def _classes(top: Path) -> list[str]:
    names = sorted(p.name for p in top.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise UserError(f"{top} holds no class folders: it should hold a sub-folder of images for each class")
    return names
