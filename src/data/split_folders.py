"""Decide which sub-folders are sets (train, validation, test), and which are classes."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from src.core.errors import UserError

# Names of sets, in any case. Words in FILLERS, digits, and words that all folders share are
# ignored, so that seg_train and seg_test are found.
NAMES = {
    "train": ("train", "training", "trainset"),
    "val": ("val", "valid", "validation", "valset", "dev"),
    "test": ("test", "testing", "testset"),
}
FILLERS = {"set", "data", "dataset", "images", "imgs", "split"}


def find_split_folders(
    root: Path, folders: Sequence[str], images: Sequence[Path], requested: Sequence[str]
) -> dict[str, Path]:
    """Return the folder that holds the classes of `train`, and of `val` and `test` if they exist.

    A set holds class folders, which hold images. A folder named like a set counts as one only if
    the others are sets too. If a set holds a single folder with the class folders in it, as in
    seg_train/seg_train, the inner folder is returned.

    Args:
        root: the folder that the user gave.
        folders: names of its sub-folders.
        images: all images below it.
        requested: the value of data.classes. If all of them are sub-folders, these are the classes.

    Raises:
        UserError: the layout is ambiguous, or the class folders are deeper.
    """
    if requested and set(requested) <= set(folders):
        return {"train": root}
    sets = _named_like_sets(root, folders)
    if not sets:
        if not requested:
            _expect_classes_here(root, images)
        return {"train": root}
    found = {split: _innermost(root / name, images) for split, name in sets.items()}
    with_classes = {
        split: folder for split, folder in found.items() if group_by_folder(folder, images)
    }
    classes = [name for name in group_by_folder(root, images) if name not in sets.values()]
    if "train" in with_classes and (len(with_classes) > 1 or not classes or requested):
        return with_classes
    set_names = _listed(list(sets.values()))
    if classes:
        likely = classes if len(classes) > 1 else sorted([*classes, *sets.values()])
        raise UserError(
            f"data.root={root} holds {set_names}, named like a set, next to {_listed(classes)}: "
            f"data.classes=[{','.join(likely)}] says which folders are classes; "
            "or give each set a folder (train, val, test) that holds the folders of its classes"
        )
    if "train" not in sets:
        raise UserError(
            f"data.root={root} holds {set_names} and no train: rename it, or put the training "
            "images next to it into train, with a sub-folder for each class"
        )
    raise UserError(
        f"{found['train']} holds no class folders: "
        "it should hold a sub-folder of images for each class"
    )


def group_by_folder(top: Path, images: Sequence[Path]) -> dict[str, list[Path]]:
    """Group the images below `top` by the sub-folder of `top` that they are in."""
    depth = len(top.parts)
    groups: dict[str, list[Path]] = {}
    for path in images:
        if path.parts[:depth] == top.parts and len(path.parts) > depth + 1:
            groups.setdefault(path.parts[depth], []).append(path)
    return groups


@cache
def is_named_like_set(folder: str) -> bool:
    """Return whether the name of a folder alone says that it may be a set."""
    words = _words(folder) - FILLERS
    return any(words and words <= set(names) for names in NAMES.values())


def _words(folder: str) -> set[str]:
    return set(re.findall("[a-z]+", folder.lower()))


def _named_like_sets(root: Path, folders: Sequence[str]) -> dict[str, str]:
    """Return `train`, `val`, `test` -> the sub-folder of that name; raises UserError for two."""
    words = {name: _words(name) for name in folders}
    shared = set.intersection(*words.values()) if len(words) > 1 else set()
    sets: dict[str, str] = {}
    for name in folders:
        distinctive = words[name] - shared - FILLERS
        for split, names in NAMES.items():
            if distinctive and distinctive <= set(names):
                if split in sets:
                    raise UserError(
                        f"data.root={root} holds both {sets[split]} and {name}, which both mean "
                        f"the {split} set: remove one, or move its images into the other; "
                        f"if they are classes, list all classes: data.classes=[{','.join(folders)}]"
                    )
                sets[split] = name
    return sets


def _expect_classes_here(root: Path, images: Sequence[Path]) -> None:
    """Raise UserError if the classes are deeper, below the only folder of `root`."""
    inner = _innermost(root, images)
    if inner != root:
        names = list(group_by_folder(inner, images))
        sets = list(_named_like_sets(inner, names).values())
        content = _listed(sets) if sets else f"{len(names)} class folders"
        only = inner.relative_to(root).parts[0]
        raise UserError(
            f"data.root={root} holds one folder, {only}, with {content}: use data.root={inner}"
            f" (or data.classes=[{only}], if that is the only class)"
        )


def _innermost(top: Path, images: Sequence[Path]) -> Path:
    """Follow single sub-folders down to the first folder that holds several with images.

    Returns `top` itself if that chain ends in a folder with images, which is a single class.
    """
    inner = top
    while len(names := list(group_by_folder(inner, images))) == 1:
        if any(path.parent in (inner, inner / names[0]) for path in images):
            return top
        inner = inner / names[0]
    return inner


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:5], *([f"{len(names) - 5} more"] if len(names) > 5 else [])])
