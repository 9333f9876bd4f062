"""Download a missing data set, or explain in one line what to do instead."""

import contextlib
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.core.errors import UserError
from src.data.image_data import ImageData

log = logging.getLogger(__name__)


def download_missing(data: ImageData, missing: Path, download: Callable[[], Any]) -> Any:
    """Download a set, because `missing` does not exist.

    Args:
        data: the set.
        missing: a file or folder of it.
        download: downloads it; its result is returned.

    Raises:
        UserError: data.download is false, or the download fails.
    """
    advice = (
        f"put it there, or name the folder that holds it: data.root=DIR (now {data.root}); "
        "data=digits needs no download"
    )
    if not data.download:
        raise UserError(f"{data.name}: {missing} does not exist and data.download=false; {advice}")
    log.info("%s: %s does not exist, downloading it", data.name, missing)
    new_folders = [folder for folder in missing.parents if not folder.exists()]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return download()
    except Exception as error:  # the libraries can raise any exception type
        for folder in new_folders:
            with contextlib.suppress(OSError):  # keeps a folder that holds a part of the download
                folder.rmdir()
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{data.name}: {missing} does not exist and cannot be downloaded ({reason}); {advice}"
        ) from error
