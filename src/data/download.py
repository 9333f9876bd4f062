"""Fetching an absent set, and the one line that an unlucky user gets."""

import contextlib
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.core.errors import UserError
from src.data.base import ImageData

log = logging.getLogger(__name__)


def download_missing(data: ImageData, missing: Path, download: Callable[[], Any]) -> Any:
    """Call `download` because `missing` is not there; raise one line that says what, where and how else where it fails."""
    other = (
        f"put it there yourself, or name the folder that holds it by data.root= (now {data.root}); "
        "data=digits needs nothing"
    )
    if not data.download:
        raise UserError(f"{data.name}: {missing} is not there and data.download=false; {other}")
    log.info("%s: %s is not there, downloading", data.name, missing)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return download()
    except Exception as error:  # urllib, http, ssl, tarfile and torchvision each raise their own
        for folder in (
            missing.parent,
            *missing.parent.parents,
        ):  # that the attempt made: only empty ones go
            with contextlib.suppress(OSError):
                folder.rmdir()
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{data.name}: {missing} is not there and cannot be downloaded ({reason}); {other}"
        ) from error
