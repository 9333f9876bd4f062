"""Decoded images on disk: one run decodes, all later ones read. To clear it, delete the folder."""

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from src.files import Broken, load_checked, write_atomically

log = logging.getLogger(__name__)


def cached(path: Path, shape: tuple[int, ...], make: Callable[[], Tensor]) -> Tensor:
    """What `make` returns, from `path` where it is kept there already: mapped, so that it is read as fast as the disk gives it.

    A file that is broken or of another shape is made anew. Several runs may make it at once, and be killed: each writes beside
    the file and renames. Where nothing can be written, nothing is kept.

    Args:
        path: names all that the images depend on.
        shape: of the images, uint8.
        make: () -> the images.
    """
    try:
        images = load_checked(path, mmap=True)
        if not (
            isinstance(images, Tensor) and images.dtype == torch.uint8 and images.shape == shape
        ):
            raise Broken("other images than its name says")
        return images
    except FileNotFoundError:
        pass
    except Broken as error:
        log.info("%s is broken (%s): decoding anew", path, error)
    images = make()
    try:
        write_atomically(path, lambda temporary: torch.save(images, temporary))
        log.info("decoded once for all runs: kept in %s", path)
    except (OSError, RuntimeError) as error:  # torch has a RuntimeError for a full disk
        log.info("decoded images cannot be kept in %s (%s)", path, str(error).partition("\n")[0])
    return images
