"""A folder of your own images: one sub-folder per class, with or without train/val/test above."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from src.core.errors import UserError
from src.core.files import printable
from src.core.image_files import SYSTEM, LeftOut, Scan, images_below, summary
from src.core.types import InputPath
from src.data.folder_writer import COLUMNS, MANIFEST
from src.data.image_data import ImageData
from src.data.images import Splits
from src.data.sets.files import FileSet, load_or_stream, make_file_set
from src.data.split_folders import find_split_folders, group_by_folder, is_named_like_set
from src.data.splits import listing, resolve_classes, split_off_test


class Folder(ImageData):
    """Images in root/CLASS/ or root/{train,val,test}/CLASS/, in any format that Pillow reads.

    HEIC is read if pillow-heif is installed. `src.data.split_folders` says which sub-folders count
    as train, val and test. If there is no test folder, `test_size` images are split off; if there
    is no val folder, `val_size`. A size below 1 is a fraction.

    Args:
        root: the folder.
        classes: names of sub-folders, labeled in this order; others are not read. None: all.
        exclude: a text file that names images to leave out, one per line, relative to the root.
        settings: settings of `ImageData`.
    """

    def __init__(
        self,
        root: InputPath,
        classes: Sequence[str | int] | None = None,
        exclude: InputPath | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(root=root, **settings)
        self.classes, self.exclude = classes, exclude

    def read(self) -> Splits:
        if not self.root.is_dir():
            raise UserError(
                f"data={self.name}: data.root={self.root} is not a folder; "
                "it should hold a sub-folder for each class"
            )
        split_folders = self.split_folders()
        known = list(_class_folders(split_folders["train"]))
        for folder in split_folders.values() if self.classes is None else ():
            with_images = map(printable, group_by_folder(folder, self.scan.images))
            if unknown := sorted(set(with_images) - set(known)):
                raise UserError(
                    f"{folder / unknown[0]}: no such class among the training folders "
                    f"({', '.join(known)})"
                )
        names = known if self.classes is None else resolve_classes(self.classes, known)
        self.set_classes(names, split_folders["train"])
        files = {split: self._files(split, folder) for split, folder in split_folders.items()}
        used = {path for part in files.values() for path in part.paths}
        if unused := [path for path in self.scan.images if path not in used]:
            self.scan.left_out["outside the folders of the classes"] = unused
        loaded = load_or_stream(self, list(files.values()), self.scan.left_out)
        parts = dict(zip(files, loaded, strict=True))
        if _holds_copies(self.root):
            for part, size in (("test", self.test_size), ("val", self.val_size)):
                if part not in parts and size:
                    raise UserError(
                        f"data.{part}_size={size}: {self.root} holds copies of its training images "
                        f"({MANIFEST}), so a {part} set drawn from them would repeat images of "
                        f"training; set data.{part}_size=0, or write the folder with a {part} set"
                    )
        self.training_files = listing(files["train"].paths, self.root, len(parts["train"]))
        if "test" in parts:
            return Splits(**parts)
        self.pool = self.training_files
        splits = split_off_test(parts["train"], self.test_size, self.split_seed, str(self.root))
        return replace(splits, val=parts.get("val"))

    @cached_property
    def scan(self) -> Scan:
        """All files below the root, without those that `exclude` names.

        An image that sets link to counts there, not in the folder that the links point to.
        """
        depth = len(self.root.parts)
        scan = images_below(self.root, lambda path: is_named_like_set(path.parts[depth]))
        if self.exclude is None:
            return scan
        path = Path(self.exclude).expanduser()
        try:
            lines = path.read_bytes().splitlines()  # names of files are not always UTF-8
        except OSError as error:
            raise UserError(f"data.exclude={path} cannot be read: {error.strerror}") from error
        named = {self.root / os.fsdecode(line) for line in lines if line}
        if missing := named.difference(scan.images):
            raise UserError(
                f"data.exclude={path} lists {printable(min(missing))}, "
                "which is no image in data.root"
            )
        kept = [image for image in scan.images if image not in named]
        left_out = {f"named in {path}": sorted(named)} if named else {}
        return Scan(kept, scan.left_out | left_out)

    def split_folders(self) -> dict[str, Path]:
        """Return the folders that hold the classes of train, and of val and test if they exist."""
        folders = [folder.name for folder in _class_folders(self.root).values()]
        requested = [str(name) for name in self.classes or ()]
        return find_split_folders(self.root, folders, self.scan.images, requested)

    def _files(self, split: str, top: Path) -> FileSet:
        paths: list[Path] = []
        labels: list[int] = []
        folders, images = _class_folders(top), group_by_folder(top, self.scan.images)
        for label, name in enumerate(self.class_names):
            folder = folders.get(name, top / name)
            files = images.get(folder.name, [])
            if not files and split == "train":
                reasons = summary(_files_below(folder, self.scan.left_out))
                hint = f" ({reasons})" if reasons else ""
                raise UserError(f"{folder}: a class with no images{hint}")
            paths += files
            labels += [label] * len(files)
        return make_file_set(self, paths, torch.tensor(labels, dtype=torch.int64))


def _class_folders(top: Path) -> dict[str, Path]:
    """Return the class folders in `top`, sorted, by their printable names."""
    folders = sorted(
        path
        for path in top.iterdir()
        if path.is_dir() and not path.name.startswith(".") and path.name not in SYSTEM
    )
    if not folders:
        raise UserError(
            f"{top} holds no class folders: it should hold a sub-folder of images for each class"
        )
    named: dict[str, Path] = {}
    for path in folders:
        name = printable(path.name)
        if named.setdefault(name, path) is not path:
            raise UserError(f"{top} holds two folders whose names are shown as {name}: rename one")
    return named


def _files_below(folder: Path, left_out: LeftOut) -> LeftOut:
    """Return those of the left out files that are below `folder`."""
    below = {
        reason: [path for path in paths if folder in path.parents]
        for reason, paths in left_out.items()
    }
    return {reason: paths for reason, paths in below.items() if paths}


def _holds_copies(root: Path) -> bool:
    """Return whether `src.augment` has written augmented copies of images to `root`."""
    try:
        with (root / MANIFEST).open(encoding="utf-8", errors="replace") as file:
            return file.readline().strip() == ",".join(COLUMNS)
    except OSError:
        return False
