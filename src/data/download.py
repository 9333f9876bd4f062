"""Download a missing data set, or explain in one line what to do instead."""

import contextlib
import fcntl
import io
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from src.core.errors import UserError
from src.data.image_data import ImageData

log = logging.getLogger(__name__)


def download_missing(
    data: ImageData, find_missing: Callable[[], Path | None], download: Callable[[], Any]
) -> None:
    """Download a set of which a file or folder is missing.

    If another process downloads it, waits for that process. Where data.root cannot be written, no
    process waits.

    Args:
        data: the set.
        find_missing: returns a missing file or folder of it; None: all exist.
        download: downloads it.

    Raises:
        UserError: data.download is false, or the download fails.
    """
    lock, missing = data.root / ".downloading", find_missing()
    if missing is None and not (data.download and lock.exists()):
        return
    advice = (
        f"put it there, or name the folder that holds it: data.root=DIR (now {data.root}); "
        "data=digits needs no download"
    )
    if not data.download:
        raise UserError(f"{data.name}: {missing} does not exist and data.download=false; {advice}")
    new_folders = [folder for folder in (missing or lock).parents if not folder.exists()]
    try:
        with _locked(lock), contextlib.redirect_stdout(io.StringIO()):
            missing = find_missing()
            if missing is not None:
                log.info("%s: %s does not exist, downloading it", data.name, missing)
                download()
    except Exception as error:  # the libraries can raise any exception type
        for folder in new_folders:
            with contextlib.suppress(OSError):  # keeps a folder that holds a part of the download
                folder.rmdir()
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{data.name}: {missing} does not exist and cannot be downloaded ({reason}); {advice}"
        ) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time into the block; several where `path` cannot be written."""
    file = _lock(path)
    try:
        yield
    finally:
        if file is not None:
            with contextlib.suppress(OSError):
                path.unlink()
            file.close()


def _lock(path: Path) -> IO[Any] | None:
    """Return `path`, opened when no other process has locked it; None if it cannot be written."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = path.open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("waiting for another process that downloads into %s", path.parent)
                fcntl.flock(file, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):  # the other process has removed it
                if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                    return file
            file.close()
    return None
