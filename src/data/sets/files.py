"""Image files as a set: decoded a batch at a time, or all at once into memory and the cache."""

import hashlib
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from src.core.counts import count
from src.core.errors import UserError
from src.core.files import LeftOut, count_line, printable
from src.core.memory import total_memory
from src.data.cache import cached
from src.data.decode import Fit, decode_array, parse_color, why_unreadable
from src.data.image_data import ImageData
from src.data.images import Images, ImageSet

log = logging.getLogger(__name__)

MEMORY_LIMIT = 4 * 2**30  # bytes of decoded images, at most, for `in_memory: auto` and the cache
VERSION = 3  # raise it when `decode` changes: cached images are then decoded again


@dataclass
class FileSet(Dataset[Any]):
    """Image files, decoded a batch at a time.

    Attributes:
        paths: N files.
        labels: (N,) int64.
        fit: how images are decoded; `fit.size` is not None.
    """

    paths: list[Path]
    labels: Tensor
    fit: Fit

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        # one array for the batch: tensors of single images take a quarter of the time of decoding
        channels, height, width = self.fit.shape
        pixels = np.empty((len(indices), height, width, channels), dtype=np.uint8)
        for k, i in enumerate(indices.tolist()):
            pixels[k] = self.pixels(i)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), self.labels[indices]

    def image(self, i: int) -> Tensor:
        """Return image i, (C, H, W) uint8. Raises UserError if its file cannot be read."""
        return torch.from_numpy(self.pixels(i).copy()).permute(2, 0, 1)

    def pixels(self, i: int) -> np.ndarray:
        """Return image i, (H, W, C) uint8. Raises UserError if its file cannot be read."""
        return decode_array(self.paths[i], self.fit)

    def subset(self, indices: Tensor) -> "FileSet":
        """Return the files at `indices`."""
        paths = [self.paths[i] for i in indices.tolist()]
        return replace(self, paths=paths, labels=self.labels[indices])

    def key(self) -> str:
        """Return sixteen hex digits that identify the result of `decode_all`.

        They depend on the files' paths, sizes and times, and on how they are decoded.
        """
        heic = find_spec("pillow_heif") is not None  # a HEIC file may be called .jpg
        how = (VERSION, *self.fit, heic)
        digest = hashlib.blake2b(repr(how).encode(), digest_size=8)
        for path in self.paths:
            stat = path.stat()
            line = f"{path.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\0"
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()

    def decode_all(self, strict: bool) -> tuple[Tensor, Tensor]:
        """Decode all files, with one thread per core.

        Args:
            strict: raise for a file that cannot be read; False: leave it out.

        Returns:
            The M readable images, (M, C, H, W) uint8, and which they are, (N,) bool.

        Raises:
            UserError: `strict`, and a file cannot be read.
        """
        images = torch.empty(len(self), *self.fit.shape, dtype=torch.uint8)

        def decode_into(i: int) -> bool:
            try:
                images[i] = self.image(i)
            except UserError:
                if strict:
                    raise
                return False
            return True

        readable = self._for_each(decode_into, "decoding")
        return (images if readable.all() else images[readable]), readable

    def readable(self) -> Tensor:
        """Return which files can be read completely, (N,) bool.

        Takes about a quarter of the time of `decode_all`.
        """
        return self._for_each(
            lambda i: why_unreadable(self.paths[i]) is None, "looking for files that cannot be read"
        )

    def _for_each(self, action: Callable[[int], bool], title: str) -> Tensor:
        n = len(self)
        with ThreadPoolExecutor() as pool:
            results: Iterable[bool] = pool.map(action, range(n))
            return torch.tensor([*tqdm(results, title, n, disable=None, leave=False)]).bool()


def make_file_set(data: ImageData, paths: list[Path], labels: Tensor) -> FileSet:
    """Return the files at `paths` as a set, with labels (N,) and the settings of `data`."""
    background = parse_color(data.background)
    fit = Fit(data.size, data.channels, background, data.crop, data.interpolation)
    return FileSet(paths, labels, fit)


def load_or_stream(
    data: ImageData, parts: list[FileSet], left_out: LeftOut | None = None
) -> list[Images]:
    """Decode all parts into memory if they fit; otherwise keep them as files. Logs which.

    Args:
        data: the settings in_memory, cache and workers.
        parts: the sets to read.
        left_out: files that are not used, by reason. Unreadable files are added, and one line of
            the log summarizes all. None: every file must be readable.

    Raises:
        UserError: no image of a class can be read, or `left_out` is None and a file cannot be.
    """
    n = sum(len(part) for part in parts)
    needed = n * data.channels * data.size[0] * data.size[1]
    limit = _auto_limit()
    keep = needed <= limit if data.in_memory == "auto" else bool(data.in_memory)
    if keep:
        where = "kept in memory"
    else:
        where = f"decoded as needed by {count(data.workers, 'worker')}"
        if data.in_memory == "auto":
            where += f" (data.in_memory=auto keeps up to {limit / 2**20:,.1f} MiB)"
    size = f"{needed / 2**20:,.1f} MiB"
    log.info("%s: %s, %s decoded: %s", data.root, count(n, "image file"), size, where)
    strict = left_out is None
    cache = data.cache if needed <= MEMORY_LIMIT or not keep else None
    loaded: list[Images] = []
    unreadable: list[Path] = []
    for part in parts:
        if keep:
            images, readable = _decode_cached(part, strict, cache, data.name)
            loaded.append(ImageSet(images, part.labels[readable]))
        else:
            all_readable = torch.ones(len(part)).bool()
            readable = all_readable if strict else _readable_cached(part, cache, data.name)
            loaded.append(part if readable.all() else part.subset(readable.nonzero().flatten()))
        _expect_readable_classes(data, part, readable)
        unreadable += [part.paths[i] for i in (~readable).nonzero().flatten().tolist()]
    if left_out is not None:
        if unreadable:
            left_out[f"unreadable (the first: {_describe_fault(unreadable[0])})"] = unreadable
        if left_out:
            log.info("%s: %s", data.root, count_line(left_out))
    return loaded


def _auto_limit() -> int:
    """Return the bytes of decoded images that `in_memory: auto` keeps at most."""
    memory = total_memory()
    return MEMORY_LIMIT if memory is None else min(MEMORY_LIMIT, memory // 4)


def _decode_cached(
    part: FileSet, strict: bool, cache: Path | None, name: str
) -> tuple[Tensor, Tensor]:
    """Return part.decode_all(strict), from the cache if possible."""

    def fits(value: Any) -> bool:
        images, readable = value
        shape = (int(readable.sum()), *part.fit.shape)
        return images.dtype == torch.uint8 and images.shape == shape and len(readable) == len(part)

    if cache is None:
        return part.decode_all(strict)
    path = cache / "decoded" / f"{name}-{part.key()}.pt"
    return cached(path, fits, lambda: part.decode_all(strict))


def _readable_cached(part: FileSet, cache: Path | None, name: str) -> Tensor:
    """Return part.readable(), from the cache if possible."""
    if cache is None:
        return part.readable()
    path = cache / "decoded" / f"{name}-{part.key()}-readable.pt"
    return cached(path, lambda value: value.shape == (len(part),), part.readable)


def _expect_readable_classes(data: ImageData, part: FileSet, readable: Tensor) -> None:
    """Raise UserError if a class has files in `part`, but none of them is readable (N,)."""
    for label in part.labels.unique().tolist():
        in_class = part.labels == label
        if not (readable & in_class).any():
            which = f"class {data.class_names[label]}" if label >= 0 else str(data.root)
            first = part.paths[int(in_class.nonzero()[0])]
            raise UserError(
                f"none of {count(int(in_class.sum()), 'image')} of {which} can be read; "
                f"the first: {_describe_fault(first)}"
            )


def _describe_fault(path: Path) -> str:
    return f"{printable(path)}: {why_unreadable(path)}"
