"""Files that are whole or not there, and read only where every byte is what was written; those that hold images."""

import itertools
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image


class Broken(Exception):
    """A file holds something else than what was written; the message says what."""


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Call write(temporary path) beside `path`, bring it to the disk, rename: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename a file that is broken to NAME.broken, or a number behind it where that is taken; returns its new path."""
    names = itertools.chain(
        [f"{path.name}.broken"], (f"{path.name}.broken-{n}" for n in itertools.count(2))
    )
    free = next(place for name in names if not (place := path.with_name(name)).exists())
    return path.rename(free)


def load_checked(path: Path, mmap: bool = False) -> Any:
    """What torch.save wrote to `path`, on the CPU; plain values and tensors only.

    Args:
        path: the file.
        mmap: map the tensors from the file instead of copying them; what is written to them stays in this process.

    Raises:
        FileNotFoundError, and Broken where a byte is wrong.
    """
    import torch

    try:
        with zipfile.ZipFile(
            path
        ) as archive:  # torch.load checks no checksum: a flipped byte would load silently
            if wrong := archive.testzip():
                raise Broken(f"wrong checksum in {wrong}")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except (FileNotFoundError, Broken):
        raise
    except Exception as error:  # zipfile, pickle and torch each raise their own
        raise Broken(str(error).partition("\n")[0] or type(error).__name__) from error


def images_below(folder: Path) -> list[Path]:
    """The image files below `folder`, by their endings, sorted; not hidden ones, nor those of hidden folders."""
    readable = {
        ending for ending, name in Image.registered_extensions().items() if name in Image.OPEN
    }
    files = (
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    return sorted(path for path in files if path.suffix.lower() in readable and path.is_file())
