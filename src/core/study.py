"""The storage of a study: Optuna's journal in the folder of the sweep, or a database."""

import contextlib
from pathlib import Path
from typing import Any

NAME = "study.log"


def open_storage(url: str | None, folder: Path) -> Any:
    """Return the storage of a study.

    Args:
        url: of a database; None: study.log in `folder`.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if url is not None:
        return optuna.storages.get_storage(url)
    return optuna.storages.JournalStorage(JournalFileBackend(str(folder / NAME)))


def repair(folder: Path) -> None:
    """Remove what a killed process has left: half a line at the end of the journal, and its lock.

    Nothing else may use the journal.
    """
    path = folder / NAME
    path.with_name(f"{NAME}.lock").unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError), path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
