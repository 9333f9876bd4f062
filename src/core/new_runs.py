"""Make the folder of a new run, and remove that of a run that never trained."""

import contextlib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from src.core.errors import UserError
from src.core.runs import held, holds_training, locked

# names in the folder of a run or sweep that was killed before its settings were saved
UNSTARTED = (".lock", "study.log", "study.log.lock")
# patterns of the names in the folder of a run that has not trained
UNTRAINED = (".hydra", ".lock", ".*.tmp", "run.json", "train.log", "checkpoints", "images", "graph",
             "metrics.csv", "mlflow.json", "wandb", "wandb.json", "profile.txt",
             "profile_trace.json", "events.out.tfevents.*", "nonfinite_batch.pt")  # fmt: skip


@contextlib.contextmanager
def reserved(wanted: Path, exact: bool) -> Iterator[Path]:
    """Make a new folder for a run and lock it, so that two launches never share one.

    Args:
        wanted: its name. A number is appended if it exists.
        exact: the user chose the name. Then it must be new, empty, or a run that never trained.
    """
    if exact:
        _expect_unused(wanted)  # before the lock is written there
        wanted.mkdir(parents=True, exist_ok=True)
    folder = wanted if exact else _new_folder(wanted)
    with locked(folder):
        _expect_unused(folder)
        _empty(folder)
        yield folder


def _new_folder(wanted: Path) -> Path:
    wanted.parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, 10_000):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise UserError(f"{wanted} and 10,000 numbered names already exist")


def _expect_unused(folder: Path) -> None:
    """Raise UserError if `folder` holds a run that has trained, or files of the user."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    is_run = ".hydra" in names and not holds_training(folder)
    allowed = UNTRAINED if is_run else UNSTARTED
    is_unused = all(any(fnmatch(name, pattern) for pattern in allowed) for name in names)
    if folder.exists() and not (folder.is_dir() and is_unused):
        raise UserError(
            f"{folder} exists and is not empty: continue that run with resume={folder}, "
            "or choose another name"
        )


def discard(folder: Path, parents: bool) -> None:
    """Remove the folder of a run or sweep that this process has locked, unless it holds training.

    Args:
        folder: the folder.
        parents: remove the two folders above it, too, if they are empty.
    """
    if folder.resolve() not in held or holds_training(folder):
        return
    _empty(folder)
    with contextlib.suppress(OSError):
        (folder / ".lock").unlink()
    for empty in (folder, folder.parent, folder.parent.parent) if parents else (folder,):
        with contextlib.suppress(OSError):
            empty.rmdir()


def _empty(folder: Path) -> None:
    """Remove what is in `folder`, except for the lock."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path != folder / ".lock":
            with contextlib.suppress(OSError):  # the disk that failed the run may fail here too
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
