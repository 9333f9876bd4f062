"""What a run leaves behind, and opening it again: its folder, its config, its checkpoints, metrics.json."""

import contextlib
import errno
import fcntl
import json
import logging
import math
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.core.errors import UserError, first_line
from src.core.files import Broken, load_checked, set_aside, write_atomically

log = logging.getLogger(__name__)

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"  # the newest checkpoint and the one before it
DAMAGED = "damaged.ckpt"  # a last.ckpt that could not be read, when a run was resumed
TRAINED = (f"checkpoints/{LAST}", f"checkpoints/{PREVIOUS}", "metrics.json")  # one: worth keeping
PUT_BACK = "put a copy of it back, or train again"
PARTS: dict[str, type] = {  # of a checkpoint that training wrote
    "state_dict": dict,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "epoch": int,
    "global_step": int,
    "pytorch-lightning_version": str,
}


def reserve(wanted: Path, exact: bool) -> Path:
    """Make a new folder for a run, atomically, so that no two launches share one.

    Args:
        wanted: its name; a number is put behind it where it is taken.
        exact: the user chose the name: it must be new, empty, or of a run that never trained.
    """
    if exact and wanted.exists():
        if wanted.is_dir() and (wanted / ".hydra").is_dir() and not holds_training(wanted):
            with locked(wanted):
                discard(wanted, parents=False)
            wanted.mkdir(parents=True, exist_ok=True)
        if not wanted.is_dir() or any(wanted.iterdir()):
            raise UserError(
                f"{wanted} exists and is not empty: resume={wanted} goes on with a run, another name starts one"
            )
        return wanted
    wanted.parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, 10_000):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise UserError(f"{wanted} and 10,000 names after it are taken")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run in `folder` for this process alone; raises UserError where another holds it.

    The kernel releases the lock when the process ends, however it ends. Unfinished files that a
    killed process left behind are removed.
    """
    if not is_first_process():
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
            # else the file system has no locks: go on without
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        for path in folder.rglob(".*.tmp"):
            path.unlink(missing_ok=True)
        yield


def is_first_process() -> bool:
    """Return whether this process writes, of those that train one model together.

    Lightning and torchrun number them by LOCAL_RANK, RANK and NODE_RANK, Slurm by SLURM_PROCID.
    """
    ranks = ("LOCAL_RANK", "RANK", "NODE_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def holds_training(folder: Path) -> bool:
    """Return whether a checkpoint or figures lie in `folder`, of a run or of a sweep's jobs."""
    return any(path for name in TRAINED for path in folder.rglob(name))


def discard(folder: Path, parents: bool) -> None:
    """Remove the folder of a run (or sweep) that has nothing to go on with.

    With `parents` the two folders above it go too, where they are empty.
    """
    if holds_training(folder):
        return
    for path in sorted(folder.rglob("*"), reverse=True):
        with contextlib.suppress(OSError):  # a disk that refused the run may refuse this too
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    for empty in (folder, folder.parent, folder.parent.parent) if parents else (folder,):
        with contextlib.suppress(OSError):
            empty.rmdir()


def load_config(folder: Path) -> DictConfig:
    """The configuration that the run in `folder` was started with; a run without a checkpoint is an error."""
    last_checkpoint(folder)
    path = config_path(folder)
    try:
        cfg = OmegaConf.load(path)
        assert isinstance(cfg, DictConfig), "it holds no settings by name"
        assert isinstance(OmegaConf.select(cfg, "model._target_"), str), "it names no model"
    except Exception as error:  # YAML, OmegaConf and the disk each raise their own
        raise UserError(f"{path} is damaged ({first_line(error)}): {PUT_BACK}") from error
    return cfg


def config_path(folder: Path) -> Path:
    """Where the run in `folder` keeps its configuration."""
    return folder / ".hydra" / "config.yaml"


def write_config(folder: Path, cfg: DictConfig) -> None:
    """Have the run in `folder` go on as `cfg` says from now on."""
    write_atomically(config_path(folder), lambda path: path.write_text(OmegaConf.to_yaml(cfg)))


def is_classifier(model: DictConfig) -> bool:
    """Does this config of a model make a Classifier?"""
    return bool(model._target_ == "src.models.classifier.Classifier")


def expect_classifier(folder: Path, setting: str = "run") -> None:
    """Raise UserError, naming `setting`, unless the run in `folder` trained a classifier; its config tells."""
    model = load_config(folder).model
    if not is_classifier(model):
        family = model._target_.rpartition(".")[2]
        raise UserError(
            f"{setting}={folder} holds a {family}, which names no classes; a classifier's run is needed"
        )


def last_checkpoint(folder: Path) -> Path:
    """The newest checkpoint of the run in `folder`; `load_last` reads it."""
    if not config_path(folder).is_file():
        raise UserError(f"{folder} is not a run's folder: {config_path(folder)} is not there")
    paths = [folder / "checkpoints" / name for name in (LAST, PREVIOUS)]
    for path in paths:  # a process that is killed between two renames leaves the previous one
        if path.is_file():
            return path
    raise UserError(
        f"{folder} has no checkpoint: {paths[0]} is not there (nothing to go on with; start a new run)"
    )


def load_last(folder: Path, repair: bool = False) -> dict[str, Any]:
    """Read the newest checkpoint of the run in `folder`, or the one before it where that is damaged.

    With `repair` a damaged one is set aside, so that the next save does not put it in the good
    one's place. Raises UserError where there is none, or both are damaged.
    """
    path = last_checkpoint(folder)
    previous = path.with_name(PREVIOUS)
    try:
        return load_training(path)
    except UserError as error:
        if path == previous or not previous.is_file():
            raise
        checkpoint = load_training(previous)
        print(f"warning: {error}; {previous} takes its place", file=sys.stderr)
        if repair:
            path.replace(path.with_name(DAMAGED))
        return checkpoint


def checkpoint_at(path: Path, setting: str) -> Path:
    """Return the checkpoint that `setting`=`path` names: a file, or the newest one in the folder of a classifier's run."""
    if path.is_dir():
        expect_classifier(path, setting)
        return last_checkpoint(path)
    if not path.is_file():  # RUN stands in recipes for a run that they cannot know
        wrong = " must be given" if str(path) == "RUN" else f"={path} does not exist"
        raise UserError(f"{setting}{wrong}: give the folder of a run, or a checkpoint")
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint at `path`, on the CPU; plain values only. Raises UserError where a byte of it is wrong."""
    try:
        return load_checked(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there") from error
    except Broken as error:
        raise UserError(f"{path} is a broken checkpoint: {error}") from error


def load_training(path: Path) -> dict[str, Any]:
    """The checkpoint at `path`, as `load_checkpoint`. Raises UserError where training did not write it."""
    checkpoint = load_checkpoint(path)
    parts = checkpoint if isinstance(checkpoint, dict) else {}
    wrong = [key for key, kind in PARTS.items() if not isinstance(parts.get(key), kind)]
    try:
        begun = batches_in(parts) >= 0
    except (KeyError, TypeError, ValueError):
        begun = False
    if wrong or not begun:
        raise UserError(
            f"{path} holds no training of this version of the project (see its '{[*wrong, 'loops'][0]}'): {PUT_BACK}"
        )
    return parts


def batches_in(checkpoint: dict[str, Any]) -> int:
    """How many batches the run had seen when it was written."""
    return int(checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"])


def write_metrics(folder: Path, values: dict[str, Any], merge: bool = True) -> None:
    """Merge `values` into the run's metrics.json, or replace it; NaN and infinity, which JSON lacks, become null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
    move_broken_metrics(folder)
    merged = {**(read_metrics(folder) if merge else {}), **finite}
    text = json.dumps(merged, indent=2) + "\n"
    write_atomically(folder / "metrics.json", lambda path: path.write_text(text))


def read_metrics(folder: Path) -> dict[str, Any]:
    """The run's metrics.json; empty where there is none yet. Raises UserError where it is damaged."""
    path = folder / "metrics.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, or no JSON
        raise UserError(f"{path} is damaged ({first_line(error)}): move it away") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is damaged (it holds no figures by name): move it away")
    return values


def move_broken_metrics(folder: Path) -> None:
    """Rename a metrics.json that cannot be read, and say so: the figures that come must not be lost with it."""
    try:
        read_metrics(folder)
    except UserError as error:
        if is_first_process():
            log.warning("%s: it is now %s", error, set_aside(folder / "metrics.json"))
