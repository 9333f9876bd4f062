"""A folder of one's own: a class a sub-folder, with or without train/val/test above them."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from src.core.errors import UserError
from src.core.files import (
    SYSTEM,
    LeftOut,
    Scan,
    count_line,
    images_below,
    printable,
    summary,
)
from src.data.base import ImageData
from src.data.cache import cached
from src.data.decode import WHITE, decode, parse_color, why_unreadable
from src.data.images import Images, ImageSet, Splits, resolve_classes, split_off_test
from src.data.split_folders import group_by_folder, levels

log = logging.getLogger(__name__)

MEMORY_LIMIT = (
    4 * 2**30
)  # bytes of decoded images that `in_memory: auto` still keeps, and the cache on disk
VERSION = 3  # of `decode`: a new number, new cache entries


@dataclass
class FileSet(Dataset):
    """Images at rest in their files, decoded a batch at a time.

    Attributes:
        paths: N files; labels: (N,) int64; size, channels: what each image is brought to, (height, width).
        background: red, green, blue from 0 to 255 behind what is transparent.
    """

    paths: list[Path]
    labels: Tensor
    size: tuple[int, int]
    channels: int
    background: tuple[int, int, int] = WHITE

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return torch.stack([self.image(i) for i in indices.tolist()]), self.labels[indices]

    def image(self, i: int) -> Tensor:
        """Image i, (C, H, W) uint8. Raises UserError that names its file when it cannot be read."""
        return decode(self.paths[i], self.size, self.channels, self.background)

    def subset(self, indices: Tensor) -> "FileSet":
        """The files at `indices`."""
        return replace(
            self, paths=[self.paths[i] for i in indices.tolist()], labels=self.labels[indices]
        )

    def key(self) -> str:
        """Sixteen hex digits that name what `decoded` returns: the files' paths, sizes and times, and what is made of them."""
        heic = find_spec("pillow_heif") is not None  # a HEIC file may be called .jpg
        how = (VERSION, self.size, self.channels, self.background, heic)
        digest = hashlib.blake2b(repr(how).encode(), digest_size=8)
        for path in self.paths:
            stat = path.stat()
            line = f"{path.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\0"
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()

    def decoded(self, strict: bool) -> tuple[Tensor, Tensor]:
        """Decode all by a thread a core.

        Returns:
            The images that can be read, (M, C, H, W) uint8, and which they are, (N,) bool. Raises UserError for the first that
            cannot where `strict`.
        """
        images = torch.empty(len(self), self.channels, *self.size, dtype=torch.uint8)

        def put(i: int) -> bool:
            try:
                images[i] = self.image(i)
            except UserError:
                if strict:
                    raise
                return False
            return True

        readable = self._each(put, "decoding")
        return (images if readable.all() else images[readable]), readable

    def readable(self) -> Tensor:
        """Which of the files can be read to their end, (N,) bool; found in about a quarter of the time that `decoded` takes."""
        return self._each(
            lambda i: why_unreadable(self.paths[i]) is None, "looking for files that cannot be read"
        )

    def _each(self, action: Callable[[int], bool], words: str) -> Tensor:
        n = len(self)
        with ThreadPoolExecutor() as pool:
            done: Iterable[bool] = pool.map(action, range(n))
            return torch.tensor([*tqdm(done, words, n, disable=None, leave=False)]).bool()


class Folder(ImageData):
    """root/CLASS/*.jpg, or root/{train,val,test}/CLASS/*.jpg, in any format that Pillow reads, and HEIC by pillow-heif.

    Without a test level `test_size` images are cut for it, without a val level `val_size`; a size in [0, 1) is a fraction.
    `src.data.split_folders` says which folders are levels.

    Args:
        classes: names of sub-folders, labelled in this order and the only ones that are read; None: all.
        settings: of `ImageData`.
    """

    def __init__(self, classes: Sequence[str | int] | None = None, **settings: Any) -> None:
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
        names = list(known) if self.classes is None else resolve_classes(self.classes, list(known))
        self.set_classes(names, present["train"])
        files = {part: self._files(part, top) for part, top in present.items()}
        used = {path for part in files.values() for path in part.paths}
        if unused := [path for path in self.scan.images if path not in used]:
            self.scan.left_out["outside the folders of the classes"] = unused
        parts = dict(
            zip(files, load_or_stream(self, list(files.values()), self.scan.left_out), strict=True)
        )
        if "test" in parts:
            return Splits(**parts)
        return replace(
            split_off_test(parts["train"], self.test_size, self.split_seed, str(self.root)),
            val=parts.get("val"),
        )

    @cached_property
    def scan(self) -> Scan:
        """All files below the root."""
        return images_below(self.root)

    def levels(self) -> dict[str, Path]:
        """Where the class folders of `train`, and of `val` and `test` where there are such, lie."""
        folders = [folder.name for folder in _classes(self.root).values()]
        asked = [str(name) for name in self.classes or ()]
        return levels(self.root, folders, self.scan.images, asked)

    def _files(self, part: str, top: Path) -> FileSet:
        paths: list[Path] = []
        labels: list[int] = []
        folders, images = _classes(top), group_by_folder(top, self.scan.images)
        for label, name in enumerate(self.class_names):
            folder = folders.get(name, top / name)
            files = images.get(folder.name, [])
            if not files and part == "train":
                why = summary(_below(folder, self.scan.left_out))
                raise UserError(f"{folder}: a class with no images{f' ({why})' if why else ''}")
            paths += files
            labels += [label] * len(files)
        return make_file_set(self, paths, torch.tensor(labels, dtype=torch.int64))


def make_file_set(data: ImageData, paths: list[Path], labels: Tensor) -> FileSet:
    """The files at `paths` with their labels (N,), read as the settings of `data` say."""
    return FileSet(paths, labels, data.size, data.channels, parse_color(data.background))


def load_or_stream(
    data: ImageData, parts: list[FileSet], left_out: LeftOut | None = None
) -> list[Images]:
    """The `parts` of a set as they are read from now on: decoded where that fits in memory; says what was chosen.

    Args:
        left_out: files that are not used. Those that cannot be read join them, and a line tells of all; None: all can be.

    Raises:
        UserError: no image of a class can be read, or any cannot where all must be.
    """
    n = sum(len(part) for part in parts)
    needed = n * data.channels * data.size[0] * data.size[1]
    keep = needed <= MEMORY_LIMIT if data.in_memory == "auto" else bool(data.in_memory)
    log.info(
        "%s: %d image files, %.1f MiB decoded: %s",
        data.root,
        n,
        needed / 2**20,
        "kept in memory"
        if keep
        else f"decoded as needed by {data.workers} workers (data.in_memory=true keeps them)",
    )
    strict = left_out is None
    read: list[Images] = []
    bad: list[Path] = []
    for part in parts:
        cache = data.cache if needed <= MEMORY_LIMIT or not keep else None
        if keep:
            images, readable = _decoded(part, strict, cache, data.name)
            read.append(ImageSet(images, part.labels[readable]))
        else:
            readable = torch.ones(len(part)).bool() if strict else _readable(part, cache, data.name)
            read.append(part if readable.all() else part.subset(readable.nonzero().flatten()))
        _expect_classes(data, part, readable)
        bad += [part.paths[i] for i in (~readable).nonzero().flatten().tolist()]
    if left_out is not None:
        if bad:
            left_out[f"unreadable (the first: {_fault(bad[0])})"] = bad
        if left_out:
            log.info("%s: %s", data.root, count_line(left_out))
    return read


def _decoded(part: FileSet, strict: bool, cache: Path | None, name: str) -> tuple[Tensor, Tensor]:
    """What part.decoded returns, from the cache where it is there."""

    def fits(value: Any) -> bool:
        images, readable = value
        shape = (int(readable.sum()), part.channels, *part.size)
        return images.dtype == torch.uint8 and images.shape == shape and len(readable) == len(part)

    if cache is None:
        return part.decoded(strict)
    path = cache / "decoded" / f"{name}-{part.key()}.pt"
    return cached(path, fits, lambda: part.decoded(strict))


def _readable(part: FileSet, cache: Path | None, name: str) -> Tensor:
    """What part.readable returns, from the cache where it is there."""
    if cache is None:
        return part.readable()
    path = cache / "decoded" / f"{name}-{part.key()}-readable.pt"
    return cached(path, lambda value: value.shape == (len(part),), part.readable)


def _expect_classes(data: ImageData, part: FileSet, readable: Tensor) -> None:
    """Raise UserError where a class has files in `part`, and none of them is readable (N,)."""
    for label in part.labels.unique().tolist():
        of_class = part.labels == label
        if not (readable & of_class).any():
            which = f"class {data.class_names[label]}" if label >= 0 else str(data.root)
            first = part.paths[int(of_class.nonzero()[0])]
            raise UserError(
                f"none of the {int(of_class.sum())} images of {which} can be read; the first: {_fault(first)}"
            )


def _fault(path: Path) -> str:
    return f"{printable(path)}: {why_unreadable(path)}"


def _classes(top: Path) -> dict[str, Path]:
    """The class folders in `top`, sorted, by their names as they can be shown."""
    folders = sorted(
        path
        for path in top.iterdir()
        if path.is_dir() and not path.name.startswith(".") and path.name not in SYSTEM
    )
    if not folders:
        raise UserError(
            f"{top} holds no class folders: it should hold a sub-folder of images for each class"
        )
    return {printable(path.name): path for path in folders}


def _below(folder: Path, left_out: LeftOut) -> LeftOut:
    """Those of the files `left_out` that are below `folder`."""
    below = {
        reason: [p for p in paths if folder in p.parents] for reason, paths in left_out.items()
    }
    return {reason: paths for reason, paths in below.items() if paths}
