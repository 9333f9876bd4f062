"""Write a data set, with augmented copies of its images, into a folder for data=folder."""

import csv
import itertools
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from src.core.errors import UserError
from src.core.files import printable
from src.core.memory import total_memory
from src.core.pixels import to_float, to_uint8
from src.core.randomness import CounterRNG
from src.core.types import ImageSize, height_width
from src.data.decode import Fit, decode, image_size
from src.data.image_data import ImageData
from src.data.images import Images
from src.data.sets.files import FileSet, for_each

Made = tuple[Tensor, dict[str, Any]]  # (1, C, H, W) in [0, 1], and its entry in the manifest
# image (1, C, H, W) in [0, 1], its label, one generator per copy -> the copies
Maker = Callable[[Tensor, int, list[CounterRNG]], Iterator[Made]]
MANIFEST = "manifest.csv"
COLUMNS = ("file", "source", "class", "seed", "copy", "transforms")  # columns of manifest.csv
NAME_BYTES = 255  # longest name of a file
BYTES_PER_PIXEL = 80  # memory that it takes to augment an image


@dataclass(frozen=True)
class FolderWriter:
    """Write the images of a data set, and augmented copies of its training images.

    Attributes:
        data: the data set; it has labels.
        make: makes the copies of one image.
        factor: the folder holds `factor` times the training images: each one, and its copies.
        seed: seed of the copies. Copy k of image i is the version that epoch k of a run would see.
        size: side or (height, width) that an image from a file is scaled to before copies are made
            from it; None: its original size.
        workers: number of threads that make copies; None: one per core, but no more than a quarter
            of the memory can hold.
    """

    data: ImageData
    make: Maker
    factor: int
    seed: int
    size: ImageSize | None = None
    workers: int | None = None

    def write(self, folder: Path) -> int:
        """Write train, val, test and manifest.csv to `folder`; return how many copies were made."""
        data = self.data
        folders = [name.replace("/", "_") for name in data.class_names]
        for name, part in (("train", data.train), ("val", data.val), ("test", data.test)):
            for class_folder in folders if len(part) else ():
                (folder / name / class_folder).mkdir(parents=True)
            places = [folder / name / place for place in image_places(part, folders)]
            for_each(partial(_save_unchanged, part, places), len(part), f"{name}, unchanged")
        places = image_places(data.train, folders)
        copies = _copy_places(places, self.factor)
        rows = for_each(
            lambda i: self._save_copies(i, folder / "train", places[i], copies[i]),
            len(data.train),
            "copies of train",
            self.workers or _threads(data.train),
        )
        with (folder / MANIFEST).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *itertools.chain.from_iterable(rows)])
        return sum(map(len, rows))

    def _save_copies(
        self, i: int, train: Path, place: Path, paths: list[Path]
    ) -> list[tuple[Any, ...]]:
        """Write the copies of training image i to `paths`; return their rows of the manifest.

        Args:
            i: index of the image.
            train: the folder of the training images.
            place: FOLDER/NAME of the image.
            paths: FOLDER/NAME of each copy.
        """
        image = to_float(_pixels(self.data.train, i, self.size)).unsqueeze(0)  # (1, C, H, W)
        label, index = int(self.data.train.labels[i]), torch.tensor([i])
        rngs = [CounterRNG(index, self.seed, "augment", epoch=k) for k in range(1, len(paths) + 1)]
        source, rows = printable(train.name / place), []
        try:
            copies = zip(paths, self.make(image, label, rngs), strict=True)
            for number, (path, (copy, values)) in enumerate(copies, 1):
                _save(copy[0], train / path)
                file = printable(train.name / path)
                class_name = self.data.class_names[label]
                rows.append((file, source, class_name, self.seed, number, json.dumps(values)))
        except ValueError as error:
            raise UserError(f"{place}: {error}") from error
        return rows


def _threads(part: Images) -> int:
    """Return how many threads augment images of `part` in a quarter of the memory, at most."""
    cores, memory = os.cpu_count() or 1, total_memory()
    if memory is None or not isinstance(part, FileSet):
        return cores
    largest = max(math.prod(image_size(path)) for path in part.paths)
    return max(1, min(cores, memory // 4 // (BYTES_PER_PIXEL * largest)))


def image_places(part: Images, folders: list[str]) -> list[Path]:
    """Return FOLDER/NAME of each image, with the folder of its class. Names must be unique there.

    A name that is not gets the image's number in front: FOLDER/00007_NAME. If such a name exists
    already, all names get their number.
    """
    paths = getattr(part, "paths", None) or [Path(f"{i:05d}.png") for i in range(len(part))]
    places = [
        Path(folders[int(label)]) / path.name
        for label, path in zip(part.labels, paths, strict=True)
    ]
    numbered = [
        place.with_name(_joined(f"{i:05d}_{place.stem}", place.suffix))
        for i, place in enumerate(places)
    ]
    counts = Counter(places)
    unique = [
        place if counts[place] == 1 else other
        for place, other in zip(places, numbered, strict=True)
    ]
    return unique if len(set(unique)) == len(places) else numbered


def _copy_places(places: list[Path], factor: int) -> list[list[Path]]:
    """Return FOLDER/NAME.COPY.png of each copy, with a number in between if that name is taken.

    It is taken if the data set is the result of an earlier call.
    """
    taken, copies = set(places), []
    for place in places:
        copies.append([free_place(place, f".{copy}.png", taken) for copy in range(1, factor)])
        taken.update(copies[-1])
    return copies


def free_place(place: Path, extension: str, taken: Container[Path]) -> Path:
    """Return `place` with `extension` appended, with a number in between if that is taken."""
    names = (
        _joined(place.name, f"{'' if number == 1 else f'.{number}'}{extension}")
        for number in itertools.count(1)
    )
    return next(path for name in names if (path := place.with_name(name)) not in taken)


def _joined(name: str, end: str) -> str:
    """Return `name` + `end`, with `name` cut to the length that a file name may have."""
    content, length = os.fsencode(name), NAME_BYTES - len(os.fsencode(end))
    return (name if len(content) <= length else content[:length].decode(errors="ignore")) + end


def _save_unchanged(part: Images, places: list[Path], i: int) -> None:
    """Write image i as it is: a copy of its file if it has one."""
    if paths := getattr(part, "paths", None):
        shutil.copyfile(paths[i], places[i])
    else:
        _save(to_float(_pixels(part, i)), places[i])


def _pixels(part: Images, i: int, size: ImageSize | None = None) -> Tensor:
    """Return image i, (C, H, W) uint8. One from a file is scaled to `size`, if given."""
    if isinstance(part, FileSet):
        sides = None if size is None else height_width(size)
        return decode(part.paths[i], Fit(sides, part.fit.channels, part.fit.background))
    return part[torch.tensor([i])][0][0]


def _save(image: Tensor, path: Path) -> None:
    Image.fromarray(to_uint8(image).permute(1, 2, 0).squeeze(2).numpy()).save(path)
