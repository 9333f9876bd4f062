"""Files that are written completely or not at all, and the search for images in folders."""

import contextlib
import errno
import itertools
import logging
import os
import re
import stat
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from src.core.counts import count
from src.core.errors import os_failure

log = logging.getLogger(__name__)

TORCH_WRITER = ("inline_container.cc", "PytorchStreamWriter", "cannot be opened")
HEIC = (".heic", ".heics", ".heif", ".heifs", ".hif")  # photographs from phones
SYSTEM = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
OTHER_KINDS, NO_HEIC = "of other kinds", "HEIC (to read them: pip install pillow-heif)"

LeftOut = dict[str, list[Path]]  # files that are not used, by reason


class Damaged(Exception):
    """The content of a file is damaged; the message says how."""


def write_atomically(
    path: Path, write: Callable[[Path], Any], previous: Path | None = None
) -> None:
    """Write a file so that a reader sees the old or the new content, never a part.

    Args:
        path: the file.
        write: called with a temporary path in the same folder, which is then synced and renamed.
        previous: new name for the old file; None: it is replaced.

    Raises:
        OSError: the file cannot be written. The error names `path`; the old file is unchanged.
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


def utf8(text: str) -> bytes:
    """Return text as UTF-8. Bytes of a path that are not UTF-8 become escapes."""
    return text.encode(errors="backslashreplace")


def printable(path: Path | str) -> str:
    r"""Return a path as one line of text.

    A byte that is not UTF-8 becomes \xHH, a line break \n.
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return re.sub(r"[\x00-\x1f\x7f]", lambda match: repr(match[0])[1:-1], text)


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
    seen = {os.path.realpath(parent) for parent in folder.absolute().parents}
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
