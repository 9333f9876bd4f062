"""Which sub-folders of a folder are sets (train, validation, test), and which are classes."""

import re
from collections.abc import Sequence
from pathlib import Path

from src.core.errors import UserError

NAMES = {
    "train": ("train", "training", "trainset"),
    "val": ("val", "valid", "validation", "valset", "dev"),
    "test": ("test", "testing", "testset"),
}  # in any case, beside FILLERS, digits and what all the folders' names share: seg_train and seg_test
FILLERS = {"set", "data", "dataset", "images", "imgs", "split"}


def levels(
    root: Path, folders: Sequence[str], images: Sequence[Path], chosen: Sequence[str]
) -> dict[str, Path]:
    """Return the folder that holds the classes of `train`, and those of `val` and `test` where there are such.

    A set holds class folders, and these hold images. A folder named like a set is one only where the others are sets too. Where
    a set holds but one folder with the class folders in it, as seg_train/seg_train, they are taken from there.

    Args:
        root: the folder that a person gave.
        folders: its sub-folders.
        images: all images below it.
        chosen: the classes that are asked for. Where all of them are sub-folders, these are the classes.

    Raises:
        UserError: which are which cannot be told, or the classes lie deeper.
    """
    if chosen and set(chosen) <= set(folders):
        return {"train": root}
    sets = _sets(root, folders)
    if not sets:
        if not chosen:
            _expect_classes_here(root, images)
        return {"train": root}
    found = {level: _innermost(root / name, images) for level, name in sets.items()}
    holding = {level: top for level, top in found.items() if group_by_folder(top, images)}
    classes = [name for name in group_by_folder(root, images) if name not in sets.values()]
    if "train" in holding and (len(holding) > 1 or not classes or chosen):
        return holding
    if classes:
        likely = classes if len(classes) > 1 else sorted([*classes, *sets.values()])
        raise UserError(
            f"data.root={root} holds {_listed(list(sets.values()))}, named like a set, beside {_listed(classes)}: "
            f"data.classes=[{','.join(likely)}] says which folders are classes; "
            "or give each set a folder (train, val, test) that holds the folders of its classes"
        )
    if "train" not in sets:
        raise UserError(
            f"data.root={root} holds {_listed(list(sets.values()))} and no train: "
            "rename it, or put the training images beside it into train, a sub-folder for each class"
        )
    raise UserError(
        f"{found['train']} holds no class folders: it should hold a sub-folder of images for each class"
    )


def group_by_folder(top: Path, images: Sequence[Path]) -> dict[str, list[Path]]:
    """Return those of `images` in or below each sub-folder of `top` that has some, by its name."""
    deep, found = len(top.parts), dict[str, list[Path]]()
    for path in images:
        if path.parts[:deep] == top.parts and len(path.parts) > deep + 1:
            found.setdefault(path.parts[deep], []).append(path)
    return found


def _sets(root: Path, folders: Sequence[str]) -> dict[str, str]:
    """`train`, `val`, `test` -> the sub-folder named so; raises UserError where two are."""
    words = {name: set(re.findall("[a-z]+", name.lower())) for name in folders}
    shared = set.intersection(*words.values()) if len(words) > 1 else set()
    sets: dict[str, str] = {}
    for name in folders:
        for level, names in NAMES.items():
            if (left := words[name] - shared - FILLERS) and left <= set(names):
                if level in sets:
                    raise UserError(
                        f"data.root={root} holds both {sets[level]} and {name}, which both mean the {level} set: "
                        "remove one, or put its images into the other"
                    )
                sets[level] = name
    return sets


def _expect_classes_here(root: Path, images: Sequence[Path]) -> None:
    """Raise UserError that names the folder where the classes are, if that is the only one in `root`."""
    inner = _innermost(root, images)
    if inner != root:
        names = list(group_by_folder(inner, images))
        sets = list(_sets(inner, names).values())
        what = _listed(sets) if sets else f"{len(names)} class folders"
        only = inner.relative_to(root).parts[0]
        raise UserError(
            f"data.root={root} holds one folder, {only}, with {what}: use data.root={inner}"
            f" (or data.classes=[{only}], if that is the one class)"
        )


def _innermost(top: Path, images: Sequence[Path]) -> Path:
    """`top`, or the folder in it that holds several with images, where each on the way there holds nothing but the next."""
    inner = top
    while len(names := list(group_by_folder(inner, images))) == 1:
        if any(path.parent in (inner, inner / names[0]) for path in images):
            return top  # one class
        inner = inner / names[0]
    return inner


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:5], *([f"{len(names) - 5} more"] if len(names) > 5 else [])])
