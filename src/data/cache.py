"""Decoded images on disk: one run decodes, all later ones read. To clear it, delete the folder."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from src.core.errors import optional, refusal
from src.core.files import Broken, load_checked, write_atomically

log = logging.getLogger(__name__)


def shared_folder(cache: str | Path | None) -> Path | None:
    """The folder `cache` of what many runs share; None where there is none, or it is below a home folder that is not there."""
    if cache is None:
        return None
    try:
        return Path(cache).expanduser()
    except RuntimeError as error:
        if (refused := refusal(error)) is None:
            raise
        log.info("cache=%s left out (%s): cache=DIR names another", cache, refused.reason)
        return None


def cached(path: Path, fits: Callable[[Any], bool], make: Callable[[], Any]) -> Any:
    """What `make` returns, from `path` where it is kept there already: mapped, so that it is read as fast as the disk gives it.

    A file that is broken or does not fit is made anew. Several runs may make it at once, and be killed: each writes beside
    the file and renames. Where nothing can be written, nothing is kept.

    Args:
        path: names all that the value depends on.
        fits: is this value of the right shape and type? Instead of False it may raise TypeError, ValueError, AttributeError.
        make: () -> the value, of tensors and plain containers.
    """
    try:
        value = load_checked(path, mmap=True)
        if not _fits(value, fits):
            raise Broken("other images than its name says")
        return value
    except FileNotFoundError:
        pass
    except Broken as error:
        log.info("%s is broken (%s): decoding anew", path, error)
    value = make()
    with optional("decoded images cannot be kept", path.parent):
        write_atomically(path, lambda temporary: torch.save(value, temporary))
        log.info("decoded once for all runs: kept in %s", path)
    return value


def _fits(value: Any, fits: Callable[[Any], bool]) -> bool:
    try:
        return fits(value)
    except (TypeError, ValueError, AttributeError):
        return False
