"""Files that are whole or not there, and read only where every byte is what was written; those that hold images."""

import contextlib
import errno
import logging
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from src.errors import refusal

TORCH_WRITER = ("inline_container.cc", "PytorchStreamWriter", "cannot be opened")


class Broken(Exception):
    """A file holds something else than what was written; the message says what."""


def write_atomically(
    path: Path, write: Callable[[Path], Any], previous: Path | None = None
) -> None:
    """Call write(temporary path) beside `path`, bring it to the disk, rename: a reader sees the old file or the new one.

    Args:
        previous: the name that the old file is given; None: it is gone.

    Raises:
        OSError that names `path`, where the disk refuses; the old file is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            path.replace(previous)
        temporary.replace(path)
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)
        raise
    except RuntimeError as error:
        if not any(words in str(error) for words in TORCH_WRITER):
            raise
        raise OSError(*_why_not(temporary), str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _why_not(path: Path) -> tuple[int, str]:
    """Return errno and words for why `path` cannot be written, which torch's RuntimeError does not say: ask the disk again."""
    try:
        with path.open("ab") as file:
            file.write(bytes(2**20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno or errno.EIO, error.strerror or str(error)
    return errno.EIO, "writing failed"


def write_or_remove(path: Path, write: Callable[[Path], Any]) -> None:
    """Call write(path), and leave no half of a file there where it fails: for what may be lost, a picture say."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(path)
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise


class LogFile(logging.FileHandler):
    """A log file that says once on stderr that it cannot be written, instead of a traceback for each line."""

    silent = False

    def handleError(self, record: logging.LogRecord) -> None:
        refused = refusal(sys.exc_info()[1])
        if refused is None:
            super().handleError(record)
        elif not self.silent:
            self.silent = True
            print(f"{self.baseFilename} left out ({refused.reason})", file=sys.stderr)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


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
