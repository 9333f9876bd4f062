"""Files that are written completely or not at all, and how paths are shown."""

import contextlib
import errno
import itertools
import logging
import os
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.core.errors import os_failure

log = logging.getLogger(__name__)

TORCH_WRITER = ("inline_container.cc", "PytorchStreamWriter", "iostream error", "cannot be opened")


class Damaged(Exception):
    """The content of a file is damaged; the message says how."""


def write_atomically(
    path: Path, write: Callable[[Path], Any], previous: Path | None = None
) -> None:
    """Write a file so that a reader sees the old or the new content, never a part.

    Args:
        path: the file.
        write: called with a temporary path in the same folder, which is then synced and renamed.
            It is called with the path itself if that is a device or a pipe, such as /dev/null.
        previous: new name for the old file; None: it is replaced.

    Raises:
        OSError: the file cannot be written. The error names `path`; the old file is unchanged.
    """
    if path.exists() and not path.is_file():
        write(path)
        return
    path = Path(os.path.realpath(path)) if path.is_symlink() else path  # a link stays a link
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
        raise OSError(*_write_error(temporary), str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_error(path: Path) -> tuple[int, str]:
    """Return the errno and the message of why `path` cannot be written.

    torch's RuntimeError does not contain them, so this tries to write once more.
    """
    try:
        with path.open("ab") as file:
            file.write(bytes(2**20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno or errno.EIO, error.strerror or str(error)
    return errno.EIO, "writing failed"


def write_or_remove(path: Path, write: Callable[[Path], Any]) -> None:
    """Call write(path), and remove the file if that fails.

    For files that may be lost, such as pictures.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(path)
    except BaseException:  # Ctrl-C too must leave no partial file; it is raised again
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise


class LogFile(logging.FileHandler):
    """A log file that reports a write error once on stderr, not with a traceback per line."""

    silent = False

    def handleError(self, record: logging.LogRecord) -> None:
        failure = os_failure(sys.exc_info()[1])
        if failure is None:
            super().handleError(record)
        elif not self.silent:
            self.silent = True
            print(f"could not write {self.baseFilename} ({failure.reason})", file=sys.stderr)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


def set_aside(path: Path) -> Path:
    """Rename a damaged file to NAME.damaged, with a number if that exists; return the new path."""
    names = itertools.chain(
        [f"{path.name}.damaged"], (f"{path.name}.damaged-{n}" for n in itertools.count(2))
    )
    free = next(place for name in names if not (place := path.with_name(name)).exists())
    return path.rename(free)


def load_checked(path: Path, mmap: bool = False) -> Any:
    """Load tensors and plain values that torch.save wrote, on the CPU, and verify the checksums.

    Args:
        path: the file.
        mmap: map the tensors from the file instead of copying them. Changes to them stay in this
            process.

    Raises:
        FileNotFoundError: there is no file.
        Damaged: the file is damaged.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as archive:  # torch.load verifies no checksums
            if wrong := archive.testzip():
                raise Damaged(f"wrong checksum in {wrong}")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except (FileNotFoundError, Damaged):
        raise
    except Exception as error:  # zipfile, pickle and torch can raise any exception type
        raise Damaged(str(error).partition("\n")[0] or type(error).__name__) from error


def utf8(text: str) -> bytes:
    """Return text as UTF-8. Bytes of a path that are not UTF-8 become escapes."""
    return text.encode(errors="backslashreplace")


def printable(path: Path | str) -> str:
    r"""Return a path as one line of text.

    A byte that is not UTF-8 becomes \xHH, a line break \n.
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return re.sub(r"[\x00-\x1f\x7f]", lambda match: repr(match[0])[1:-1], text)


def shared_folder(cache: str | Path | None) -> Path | None:
    """Return the folder of the setting `cache`.

    Returns None for None, and if the path is below a home folder that does not exist.
    """
    if cache is None:
        return None
    try:
        return Path(cache).expanduser()
    except RuntimeError as error:
        if (failure := os_failure(error)) is None:
            raise
        log.info("cache=%s not used (%s); to use another folder: cache=DIR", cache, failure.reason)
        return None
