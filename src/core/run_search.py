"""Find runs in folders: all of them, or the newest."""

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from src.core import run_record, runs, slurm
from src.core.errors import UserError

LAST = "last"
MULTIRUN = "multirun.yaml"  # the config of a sweep, in its folder
OUT = "runs"  # the default of `out` in conf/train.yaml
DEPTH = 5  # levels of folders that are searched


def runs_below(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Yield the folders of all runs below `folder`, which may be a run itself, sorted by name.

    Args:
        depth: how many levels below `folder` are searched.
    """
    for here, folders, files in os.walk(folder):
        path = Path(here)
        if {".hydra", run_record.NAME} & {*folders, *files} and is_run(path):
            folders.clear()
            yield path
        is_deep = len(path.relative_to(folder).parts) >= depth
        folders[:] = [] if is_deep else sorted(n for n in folders if not n.startswith("."))


def is_run(folder: Path) -> bool:
    """Return whether `folder` is the folder of a run."""
    return (folder / run_record.NAME).is_file() or runs.config_path(folder).is_file()


def is_sweep(folder: Path) -> bool:
    """Return whether `folder` is the folder of a sweep."""
    return (folder / MULTIRUN).is_file()


def has_checkpoint(folder: Path) -> bool:
    """Return whether the run in `folder` can be resumed."""
    return any((folder / "checkpoints" / name).is_file() for name in (runs.LAST, runs.PREVIOUS))


def started(folder: Path) -> float:
    """Return when the newest session of a run started, in seconds since 1970."""
    sessions = run_record.read(folder).get("sessions", [])
    try:
        return datetime.fromisoformat(sessions[-1]["started"]).timestamp()
    except (LookupError, TypeError, ValueError):
        return max((path.stat().st_mtime for path in folder.glob(".hydra/config.yaml")), default=0)


def newest(folder: Path, depth: int = DEPTH) -> Path | None:
    """Return the run with a checkpoint below `folder` that was started or resumed last.

    Args:
        depth: how many levels below `folder` are searched.
    """
    found = [run for run in runs_below(folder, depth) if has_checkpoint(run)]
    return max(found, key=started, default=None)


def requeued_runs(folder: Path) -> Iterator[Path]:
    """Yield the runs below `folder` that the Slurm job of this process trained before a requeue."""
    for path in runs_below(folder) if slurm.is_requeued() else ():
        sessions = run_record.read(path).get("sessions", [])
        is_ours = any(one.get("slurm_job") == slurm.job_id() for one in sessions)
        if is_ours and has_checkpoint(path):
            yield path


def is_folder(name: Path | str) -> bool:
    """Return whether a folder has this name, also with ~; False for a name that cannot exist."""
    with contextlib.suppress(OSError, RuntimeError):  # too long, or the ~ of an unknown user
        return Path(name).expanduser().is_dir()
    return False


def find_run(text: str, setting: str = "run") -> str:
    """Return the folder of the run that a setting names; another text as it is.

    `last` is the newest run below `runs`, and DIR/last the newest below DIR. A folder whose
    sub-folders are runs, such as runs/dcgan_mnist, means its newest; that of a sweep does not.

    Args:
        setting: its name, for the error.

    Raises:
        UserError: there is no run with a checkpoint.
    """
    path = Path(os.path.expanduser(text))  # noqa: PTH111 (Path's raises for an unknown user)
    if path.name == LAST and not path.exists():
        top = path.parent if path.parent != Path() else Path(OUT)
        if (found := newest(top)) is None:
            raise UserError(f"{setting}={text}: there is no run with a checkpoint below {top}")
        return str(found)
    if not is_folder(path) or is_run(path) or is_sweep(path):
        return text
    found = newest(path, depth=1)
    return text if found is None else str(found)
