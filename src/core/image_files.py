"""The search for images in folders."""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from src.core.counts import count

HEIC = (".heic", ".heics", ".heif", ".heifs", ".hif")  # photographs from phones
SYSTEM = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
OTHER_KINDS, NO_HEIC = "of other kinds", "HEIC (to read them: pip install pillow-heif)"

LeftOut = dict[str, list[Path]]  # files that are not used, by reason


class Scan(NamedTuple):
    """Every file below a folder.

    Attributes:
        images: files with the extension of an image, sorted.
        left_out: all other files, by the reason.
    """

    images: list[Path]
    left_out: LeftOut


def images_below(folder: Path, prefer: Callable[[Path], bool] = lambda path: False) -> Scan:
    """Find the images below `folder`, also through links. Each file counts once.

    It counts at a place that `prefer` accepts, else under its own name, else at a link.
    Hidden files and the files that operating systems add to folders are left out.
    """
    images: dict[str, Path] = {}  # by real path
    found: list[Path] = []
    left_out: LeftOut = {}
    for path in _files_below(folder, left_out):
        if reason := _reason(path, path.relative_to(folder).parts):
            left_out.setdefault(reason, []).append(path)
        else:
            found.append(path)
    for path in sorted(found, key=lambda path: (not prefer(path), path.is_symlink(), path)):
        if images.setdefault(os.path.realpath(path), path) != path and path.is_symlink():
            left_out.setdefault("links to images that are used already", []).append(path)
    return Scan(sorted(images.values()), left_out)


def summary(left_out: LeftOut) -> str:
    """Return how many files are left out for which reason.

    The format is '40 hidden, 2 of other kinds (.json, .txt)'.
    """
    parts = []
    for reason, paths in sorted(left_out.items(), key=lambda item: -len(item[1])):
        words = reason
        if reason == OTHER_KINDS:
            names = (path.suffix.lower() or "no extension" for path in paths)
            extensions = Counter(names).most_common()
            more = [f"{len(extensions) - 4} more"] if len(extensions) > 4 else []
            words += f" ({', '.join([*(extension for extension, _ in extensions[:4]), *more])})"
        parts.append(f"{len(paths)} {words}")
    return ", ".join(parts)


def count_line(left_out: LeftOut) -> str:
    """Return 'left out 42 files: ' and their `summary`."""
    total = sum(map(len, left_out.values()))
    return f"left out {count(total, 'file')}: {summary(left_out)}"


@cache
def heic_readable() -> bool:
    """Register pillow-heif with Pillow, once. Returns whether pillow-heif is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _files_below(folder: Path, left_out: LeftOut) -> Iterator[Path]:
    """Yield each file below `folder`.

    Folders behind links come last, so that a file that is reachable twice gets its own name.
    """
    seen = set(map(str, Path(os.path.realpath(folder)).parents))
    own, linked = [folder], list[Path]()
    while own or linked:
        here = (own or linked).pop()
        real = os.path.realpath(here)
        if real in seen:
            left_out.setdefault("links to folders that are read already", []).append(here)
            continue
        seen.add(real)
        try:
            inside = list(os.scandir(here))
        except OSError as error:
            if here != folder:
                reason = f"folders that cannot be opened ({error.strerror})"
                left_out.setdefault(reason, []).append(here)
            continue
        for entry in inside:
            path, is_link = here / entry.name, entry.is_symlink()
            is_folder = os.path.isdir(path)  # noqa: PTH112 (Path.is_dir raises without permission)
            if is_folder and not (is_link and _hidden(entry.name)):
                (linked if is_link else own).append(path)
            else:
                yield path
        linked.sort(reverse=True)


def _reason(path: Path, parts: tuple[str, ...]) -> str | None:
    """Return why a file is left out; None for an image.

    Args:
        path: the file.
        parts: its path, relative to the folder that is searched.
    """
    if any(_hidden(part) for part in parts):
        return "hidden"
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        return "broken links" if path.is_symlink() else f"unreadable ({error.strerror})"
    if not regular:
        return "not regular files"
    extension = path.suffix.lower()
    if extension in HEIC:
        return None if heic_readable() else NO_HEIC
    return None if Image.registered_extensions().get(extension) in Image.OPEN else OTHER_KINDS


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in SYSTEM
