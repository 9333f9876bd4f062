"""The folder of a run: its lock, its config, its checkpoints and metrics.json."""

import contextlib
import errno
import fcntl
import json
import logging
import math
import os
import platform
import shlex
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.core.errors import UserError, first_line
from src.core.files import Damaged, load_checked, set_aside, write_atomically

log = logging.getLogger(__name__)

held: set[Path] = set()  # folders that this process has locked

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"  # the newest two checkpoints
DAMAGED = "damaged.ckpt"  # new name for a last.ckpt that a resumed run could not read
DAMAGE = (None, errno.EINVAL, errno.EIO)  # errno of the errors that reading a damaged file raises
# a folder that holds one of these is kept
TRAINED = (f"checkpoints/{LAST}", f"checkpoints/{PREVIOUS}", "metrics.json")
PUT_BACK = "restore a copy of it, or train again"
PARTS: dict[str, type] = {  # entries of a training checkpoint
    "state_dict": dict,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "epoch": int,
    "global_step": int,
    "pytorch-lightning_version": str,
}


def resume_command(folder: Path) -> str:
    """Return the command that continues the run or sweep in `folder`, as a shell takes it."""
    return f"python -m src.train {shlex.quote(f'resume={folder}')}"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the run in `folder` for this process. Raises UserError if another process holds it.

    The kernel releases the lock when the process ends, for any reason. Unfinished files of a
    process that was killed are removed, except in the folders of jobs that still run. Nothing is
    done if this process holds the lock already.
    """
    if not is_first_process() or folder.resolve() in held:
        yield
        return
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                owner = file.read().strip() or "another process"
                raise UserError(
                    f"{folder} is in use by {owner}: wait for it, or stop it"
                ) from error
            # any other error: the file system has no locks, so continue without
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        busy = [lock.parent for lock in folder.glob("*/.lock") if is_locked(lock.parent)]
        for path in folder.rglob(".*.tmp"):
            if not any(path.is_relative_to(job) for job in busy):
                path.unlink(missing_ok=True)
        held.add(folder.resolve())
        try:
            yield
        finally:
            held.discard(folder.resolve())


def is_locked(folder: Path) -> bool:
    """Return whether a process holds the lock of `folder` (see `locked`).

    The question itself takes no lock, so it disturbs no run that starts at the same time.
    """
    if folder.resolve() in held:  # closing the file below would release our own lock
        return True
    layout, kind = ("qqihh", 3) if sys.platform == "darwin" else ("hhqqi4x", 0)  # struct flock
    asked = [0] * 5
    asked[kind] = fcntl.F_WRLCK
    try:
        with (folder / ".lock").open("rb") as file:
            answer = fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(layout, *asked))
    except OSError:  # no lock file, or a file system without locks
        return False
    return bool(struct.unpack(layout, answer)[kind] != fcntl.F_UNLCK)


def is_first_process() -> bool:
    """Return whether this process writes the files when several train one model together.

    Lightning and torchrun number them by LOCAL_RANK, RANK and NODE_RANK, Slurm by SLURM_PROCID.
    """
    ranks = ("LOCAL_RANK", "RANK", "NODE_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def holds_training(folder: Path) -> bool:
    """Return whether `folder` holds a checkpoint or metrics, of a run or of the jobs of a sweep."""
    return any(path for name in TRAINED for path in folder.rglob(name))


def load_config(folder: Path) -> DictConfig:
    """Load the config that the run in `folder` was started with.

    Raises:
        UserError: there is no run, or its config is damaged.
    """
    last_checkpoint(folder)
    path = config_path(folder)
    try:
        cfg = OmegaConf.load(path)
        assert isinstance(cfg, DictConfig), "it has no settings"
        assert isinstance(OmegaConf.select(cfg, "model._target_"), str), "it names no model"
    except Exception as error:  # YAML, OmegaConf and the disk can raise any exception type
        raise UserError(f"{path} is damaged ({first_line(error)}): {PUT_BACK}") from error
    return cfg


def config_path(folder: Path) -> Path:
    """Return the path of a run's config."""
    return folder / ".hydra" / "config.yaml"


def write_config(folder: Path, cfg: DictConfig) -> None:
    """Replace the config of the run in `folder`."""
    text = OmegaConf.to_yaml(cfg)
    write_atomically(config_path(folder), lambda path: path.write_text(text, encoding="utf-8"))


@contextlib.contextmanager
def replaced_config(folder: Path, cfg: DictConfig) -> Iterator[None]:
    """Replace the config of a run; put it back if a UserError comes before a new checkpoint."""
    path, before = config_path(folder), config_path(folder).read_bytes()
    saved = time_of_checkpoint(folder)
    write_config(folder, cfg)
    try:
        yield
    except UserError:
        if time_of_checkpoint(folder) == saved:
            with contextlib.suppress(OSError):
                write_atomically(path, lambda temporary: temporary.write_bytes(before))
        raise


def time_of_checkpoint(folder: Path) -> int:
    """Return when the newest checkpoint was written, in nanoseconds; 0 if there is none."""
    with contextlib.suppress(OSError):
        return (folder / "checkpoints" / LAST).stat().st_mtime_ns
    return 0


def last_checkpoint(folder: Path) -> Path:
    """Return the path of the newest checkpoint of a run; `load_last` reads it."""
    if not config_path(folder).is_file():
        raise UserError(f"{folder} is not a run folder: {config_path(folder)} does not exist")
    paths = [folder / "checkpoints" / name for name in (LAST, PREVIOUS)]
    for path in paths:  # a process that is killed between two renames leaves the previous one
        if path.is_file():
            return path
    raise UserError(f"{folder} has no checkpoint: {paths[0]} does not exist; start a new run")


def load_last(folder: Path, repair: bool = False) -> dict[str, Any]:
    """Load the newest checkpoint of a run, or the one before it if that is damaged.

    Args:
        folder: the run.
        repair: rename a damaged checkpoint, so that the next save does not replace the good one.

    Raises:
        OSError: it cannot be read now, see `load_checkpoint`.
        UserError: there is no checkpoint, or both are damaged.
    """
    path = last_checkpoint(folder)
    previous = path.with_name(PREVIOUS)
    try:
        return load_training(path)
    except UserError as error:
        if path == previous or not previous.is_file():
            raise
        checkpoint = load_training(previous)
        print(f"warning: {error}; using {previous} instead", file=sys.stderr)
        if repair:
            with contextlib.suppress(FileNotFoundError):  # another process has renamed it
                path.replace(path.with_name(DAMAGED))
        return checkpoint


def checkpoint_at(path: Path, setting: str) -> Path:
    """Return the checkpoint that `setting`=`path` names.

    `path` is that file, or the folder of a run, which means its newest checkpoint.
    """
    if path.is_dir():
        return last_checkpoint(path)
    if not path.is_file():  # recipes that need a run name RUN until the user gives one
        wrong = " must be given" if str(path) == "RUN" else f"={path} does not exist"
        raise UserError(f"{setting}{wrong}: give the folder of a run, or a checkpoint")
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint, on the CPU, plain values only.

    Raises:
        OSError: it cannot be read now, for example because too many files are open.
        UserError: it is missing or damaged.
    """
    try:
        return load_checked(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except Damaged as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno not in DAMAGE:
            raise cause from None
        raise UserError(f"{path} is a damaged checkpoint: {error}") from error


def load_training(path: Path) -> dict[str, Any]:
    """Load a checkpoint as `load_checkpoint`. Raises UserError if training did not write it."""
    checkpoint = load_checkpoint(path)
    parts = checkpoint if isinstance(checkpoint, dict) else {}
    wrong = [key for key, kind in PARTS.items() if not isinstance(parts.get(key), kind)]
    try:
        has_progress = batches_in(parts) >= 0
    except (KeyError, TypeError, ValueError):
        has_progress = False
    if wrong or not has_progress:
        raise UserError(
            f"{path} is not a training checkpoint of this version "
            f"(missing or invalid entry: '{[*wrong, 'loops'][0]}'): {PUT_BACK}"
        )
    return parts


def batches_in(checkpoint: dict[str, Any]) -> int:
    """Return how many batches the run had trained on at this checkpoint."""
    return int(checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"])


def write_metrics(folder: Path, values: dict[str, Any], merge: bool = True) -> None:
    """Write `values` to the metrics.json of a run. NaN and infinity become null.

    Args:
        folder: the run.
        values: metrics by name.
        merge: keep the metrics that are there already.
    """
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
    move_damaged_metrics(folder)
    merged = {**(read_metrics(folder) if merge else {}), **finite}
    text = json.dumps(merged, indent=2) + "\n"
    write_atomically(folder / "metrics.json", lambda path: path.write_text(text, encoding="utf-8"))


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read the metrics.json of a run; {} if there is none. Raises UserError if it is damaged."""
    path = folder / "metrics.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, or not JSON
        raise UserError(f"{path} is damaged ({first_line(error)}): move it away") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is damaged (it is not a JSON object): move it away")
    return values


def move_damaged_metrics(folder: Path) -> None:
    """Rename a metrics.json that cannot be read, and log it, so that new metrics can be written."""
    try:
        read_metrics(folder)
    except UserError:
        if is_first_process():
            path = folder / "metrics.json"
            log.warning("%s is damaged; renamed to %s", path, set_aside(path))
