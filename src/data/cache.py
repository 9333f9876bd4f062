"""A cache on disk for decoded images: one run decodes, later runs read.

To clear it, delete the folder.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from src.core.errors import optional
from src.core.files import Damaged, load_checked, write_atomically

log = logging.getLogger(__name__)

ABANDONED = 3600.0  # seconds after which nobody writes an unfinished file any more


def cached(path: Path, fits: Callable[[Any], bool], make: Callable[[], Any]) -> Any:
    """Return the result of `make`, read from `path` if it is there already.

    The file is memory-mapped, so it is read as fast as the disk allows. A file that is damaged or
    does not fit is replaced. Several runs may write the same file at once and may be killed: each
    writes a temporary file and renames it. If nothing can be written, nothing is cached.

    Args:
        path: its name must depend on everything that the value depends on.
        fits: whether a value has the right shapes and types, and may be kept. It may raise
            TypeError, ValueError or AttributeError instead of returning False.
        make: () -> the value, made of tensors and built-in containers.
    """
    try:
        value = load_checked(path, mmap=True)
        if not _fits(value, fits):
            raise Damaged("its content does not match its name")
        return value
    except FileNotFoundError:
        pass
    except Damaged as error:
        log.info("%s is damaged (%s): decoding again", path, error)
    value = make()
    if not _fits(value, fits):
        return value
    _remove_unfinished(path)
    with optional("decoded images are not cached", path.parent):
        write_atomically(path, lambda temporary: torch.save(value, temporary))
        log.info("decoded images cached for all runs in %s", path)
    return value


def _remove_unfinished(path: Path) -> None:
    """Remove what killed processes have left of `path`; a process that still writes is younger."""
    for unfinished in path.parent.glob(f".{path.name}.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - unfinished.stat().st_mtime > ABANDONED:
                unfinished.unlink()


def _fits(value: Any, fits: Callable[[Any], bool]) -> bool:
    try:
        return fits(value)
    except (TypeError, ValueError, AttributeError):
        return False
