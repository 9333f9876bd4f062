"""Image files as a set: decoded a batch at a time, or all at once into memory and the cache."""

import hashlib
import logging
from collections.abc import Callable, Sequence
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
from src.core.files import printable
from src.core.image_files import LeftOut, count_line
from src.core.memory import total_memory
from src.data.cache import cached
from src.data.decode import Fit, check_readable, decode_array, is_damage, parse_color, reason
from src.data.image_data import ImageData
from src.data.images import Images, ImageSet, channel_sums

log = logging.getLogger(__name__)

MEMORY_LIMIT = 4 * 2**30  # bytes of decoded images, at most, for `in_memory: auto` and the cache
VERSION = 5  # raise it when `decode`, or what is cached, changes: images are then decoded again

Faults = dict[int, str]  # why a file cannot be read, by its index


@dataclass
class FileSet(Dataset[Any]):
    """Image files, decoded a batch at a time.

    Attributes:
        paths: N files.
        labels: (N,) int64.
        fit: how images are decoded; `fit.size` is not None.
        cache: the beginning of the paths of cached results; None: no cache.
    """

    paths: list[Path]
    labels: Tensor
    fit: Fit
    cache: str | None = None

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

    def cached(self, what: str, fits: Callable[[Any], bool], make: Callable[[], Any]) -> Any:
        """Return the result of `make` from the cache, as `src.data.cache.cached` does.

        Args:
            what: the end of the file's name.
        """
        if self.cache is None:
            return make()
        return cached(Path(f"{self.cache}-{self.key()}{what}.pt"), fits, make)

    def channel_sums(self, chunks: Sequence[Tensor]) -> Tensor:
        """Return `src.data.images.channel_sums` of the images at all `chunks` of indices."""

        def make() -> Tensor:
            sums = torch.empty(len(chunks), 2, self.fit.channels, dtype=torch.int64)

            def sum_one(k: int) -> None:
                # a result that stays would lie in the memory that the next images could reuse
                sums[k] = channel_sums(self, chunks[k])

            for_each(sum_one, len(chunks), "mean and standard deviation")
            return sums.sum(0)

        def fits(sums: Any) -> bool:
            return sums.dtype == torch.int64 and sums.shape == (2, self.fit.channels)

        result: Tensor = self.cached("-sums", fits, make)
        return result

    def decode_all(self, strict: bool) -> tuple[Tensor, Faults, bool]:
        """Decode all files, with one thread per core.

        Args:
            strict: raise for a file that cannot be read; False: leave it out.

        Returns:
            The M readable images, (M, C, H, W) uint8, and as `find_faults`.

        Raises:
            UserError: `strict`, and a file cannot be read.
        """
        images = torch.empty(len(self), *self.fit.shape, dtype=torch.uint8)

        def decode_into(i: int) -> None:
            images[i] = self.image(i)

        faults, permanent = self._try_all(decode_into, "decoding", strict)
        return images[self.readable(faults)] if faults else images, faults, permanent

    def find_faults(self) -> tuple[Faults, bool]:
        """Return the faults of files that cannot be read, and whether all lie in their content.

        Takes about a quarter of the time of `decode_all`.
        """
        title = "looking for files that cannot be read"
        return self._try_all(lambda i: check_readable(self.paths[i]), title)

    def readable(self, faults: Faults) -> Tensor:
        """Return which files have no fault, (N,) bool."""
        readable = torch.ones(len(self), dtype=torch.bool)
        readable[list(faults)] = False
        return readable

    def _try_all(
        self, action: Callable[[int], None], title: str, strict: bool = False
    ) -> tuple[Faults, bool]:
        def fault(i: int) -> tuple[str, bool] | None:
            try:
                action(i)
            except UserError as error:
                if strict:
                    raise
                return reason(error.__cause__), is_damage(error)
            return None

        results = for_each(fault, len(self), title)
        found = {i: result for i, result in enumerate(results) if result is not None}
        permanent = all(damaged for _, damaged in found.values())
        return {i: words for i, (words, _) in found.items()}, permanent


def for_each(
    action: Callable[[int], Any], n: int, title: str, workers: int | None = None
) -> list[Any]:
    """Return action(0), ..., action(n - 1), computed by threads, with a progress bar."""
    with ThreadPoolExecutor(workers) as pool:
        return list(tqdm(pool.map(action, range(n)), title, n, disable=None, leave=False))


def make_file_set(data: ImageData, paths: list[Path], labels: Tensor) -> FileSet:
    """Return the files at `paths` as a set, with labels (N,) and the settings of `data`."""
    background = parse_color(data.background)
    fit = Fit(data.size, data.channels, background, data.crop, data.interpolation)
    cache = None if data.cache is None else str(data.cache / "decoded" / data.name)
    return FileSet(paths, labels, fit, cache)


def load_or_stream(
    data: ImageData, parts: list[FileSet], left_out: LeftOut | None = None, n_other: int = 0
) -> list[Images]:
    """Decode all parts into memory if they fit; otherwise keep them as files. Logs which.

    Args:
        data: the settings in_memory, cache and workers.
        parts: the sets to read.
        left_out: files that are not used, by reason. Unreadable files are added, and one line of
            the log summarizes all. None: every file must be readable.
        n_other: number of other images of this size that in_memory=auto must also fit into memory.

    Raises:
        UserError: no image of a class can be read, or `left_out` is None and a file cannot be.
    """
    n = sum(len(part) for part in parts)
    image_bytes = data.channels * data.size[0] * data.size[1]
    needed, limit = n * image_bytes, _auto_limit()
    fits = needed + n_other * image_bytes <= limit
    keep = fits if data.in_memory == "auto" else bool(data.in_memory)
    if keep:
        where = "kept in memory"
    else:
        where = f"decoded as needed by {count(data.workers, 'worker')}"
        if data.in_memory == "auto":
            where += f" (data.in_memory=auto keeps up to {limit / 2**20:,.1f} MiB)"
    size = f"{needed / 2**20:,.1f} MiB"
    log.info("%s: %s, %s decoded: %s", data.root, count(n, "image file"), size, where)
    strict = left_out is None
    if keep and needed > MEMORY_LIMIT:
        parts = [replace(part, cache=None) for part in parts]
    loaded: list[Images] = []
    unreadable: dict[Path, str] = {}
    for part in parts:
        if keep:
            images, faults = _decode_cached(part, strict)
            loaded.append(ImageSet(images, part.labels[part.readable(faults)], is_resized=True))
        else:
            faults = {} if strict else _faults_cached(part)
            used = part.readable(faults).nonzero().flatten()
            loaded.append(part.subset(used) if faults else part)
        _expect_readable_classes(data, part, faults)
        unreadable |= {part.paths[i]: words for i, words in faults.items()}
    if left_out is not None:
        if unreadable:
            first, words = next(iter(unreadable.items()))
            left_out[f"unreadable (the first: {printable(first)}: {words})"] = list(unreadable)
        if left_out:
            log.info("%s: %s", data.root, count_line(left_out))
    return loaded


def _auto_limit() -> int:
    """Return the bytes of decoded images that `in_memory: auto` keeps at most."""
    memory = total_memory()
    return MEMORY_LIMIT if memory is None else min(MEMORY_LIMIT, memory // 4)


def _decode_cached(part: FileSet, strict: bool) -> tuple[Tensor, Faults]:
    """Return the images and faults of part.decode_all(strict), from the cache if possible."""

    def fits(value: Any) -> bool:
        images, faults, permanent = value
        shape = (len(part) - len(faults), *part.fit.shape)
        return permanent and images.dtype == torch.uint8 and images.shape == shape

    images, faults, _ = part.cached("", fits, lambda: part.decode_all(strict))
    return images, faults


def _faults_cached(part: FileSet) -> Faults:
    """Return the faults that part.find_faults() finds, from the cache if possible."""
    faults: Faults = part.cached("-faults", lambda value: value[1], part.find_faults)[0]
    return faults


def _expect_readable_classes(data: ImageData, part: FileSet, faults: Faults) -> None:
    """Raise UserError if a class has files in `part`, but all of them have faults."""
    readable = part.readable(faults)
    for label in part.labels.unique().tolist():
        in_class = part.labels == label
        if not (readable & in_class).any():
            which = f"class {data.class_names[label]}" if label >= 0 else str(data.root)
            first = int(in_class.nonzero()[0])
            raise UserError(
                f"none of {count(int(in_class.sum()), 'image')} of {which} can be read; "
                f"the first: {printable(part.paths[first])}: {faults[first]}"
            )
