"""Run one job, and report it if it fails."""

import contextlib
import shlex
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from src.config.compose import complete
from src.config.hydra_app import run_job
from src.core import new_runs, runs
from src.core.errors import (
    Incomplete,
    TrainingFailed,
    UserError,
    os_failure,
    user_error_line,
)
from src.core.files import utf8
from src.core.run_record import recorded

Task = Callable[[DictConfig, Path], Any]


def run_once(
    config_name: str, overrides: list[str], task: Task, folder: Path, is_named: bool
) -> None:
    """Run one job in `folder`, which is locked and which `overrides` set as hydra.run.dir.

    After a UserError the folder is removed, and so are empty folders above it unless the user chose
    its name (`is_named`).
    """
    raised: list[Exception] = []

    def job(cfg: DictConfig) -> Any:
        try:
            complete(cfg)
            choices = chosen()
            return run_alone(task, cfg, Path(HydraConfig.get().runtime.output_dir), choices)
        except (UserError, TrainingFailed) as error:
            raised.append(error)  # not through Hydra, which would also print a message

    try:
        run_job(config_name, overrides, job)
        for error in raised:
            raise error
    except UserError:
        new_runs.discard(folder, parents=not is_named)
        raise
    except OSError as error:  # Hydra writes the config
        if lost := failure(error, folder):
            raise lost from error
        raise


def run_alone(
    task: Task,
    cfg: DictConfig,
    folder: Path,
    choices: dict[str, str] | None = None,
    command: str | None = None,
) -> Any:
    """Run `task` in `folder`, locked against other processes. Errors are also written to its log.

    Args:
        choices: the choice of each config group, for run.json; None: a resumed run.
        command: the command line, for run.json; None: that of this process.

    Raises TrainingFailed if the system fails: the disk is full, another process has died.
    """
    command = command or command_line()
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    with contextlib.ExitStack() as lock:  # held until an error is handled
        try:
            lock.enter_context(runs.locked(folder))
            with recorded(folder, plain, choices or {}, command):
                return task(cfg, folder)
        except (UserError, TrainingFailed) as error:
            _append(folder / "train.log", f"error: {user_error_line(error)}")
            raise
        except Incomplete:
            raise
        except Exception as error:  # logged, then raised again
            if lost := failure(error, folder):
                raise lost from error
            _append(folder / "train.log", f"error: {traceback.format_exc().rstrip()}")
            raise


def command_line() -> str:
    """Return the command line of this process."""
    return shlex.join(["python", *sys.orig_argv[1:]])


def chosen() -> dict[str, str]:
    """Return the choice of each config group of the job that Hydra runs: {"model": "dcgan"}."""
    choices = HydraConfig.get().runtime.choices
    return {
        str(group): str(choice)
        for group, choice in choices.items()
        if choice is not None and not str(group).startswith("hydra")
    }


def failure(error: Exception, folder: Path) -> TrainingFailed | None:
    """Return an error that says why the system failed, what was saved and what to do.

    None if `error` has another cause. If `folder` has no checkpoint or metrics, it is removed.
    """
    resume = f"resume with: {runs.resume_command(folder)}"
    if is_lost_process(error):
        _append(folder / "train.log", f"error: {traceback.format_exc().rstrip()}")
        return TrainingFailed(f"another process of this run has ended; {resume}")
    if (failure := os_failure(error)) is None:
        return None
    try:
        batches = runs.batches_in(runs.load_last(folder))
        safe, then = f"the checkpoint of batch {batches} is intact", resume
    except OSError:
        safe, then = "the checkpoint cannot be read now", resume
    except UserError:
        with contextlib.suppress(OSError):
            new_runs.discard(folder, parents=False)
        safe, then = "nothing is saved yet", "start the run again"
    return TrainingFailed(f"{failure.reason}; {safe}: {failure.advice}, then {then}")


def is_lost_process(error: Exception) -> bool:
    """Return whether an operation across processes failed: an error of gloo, NCCL or torch."""
    if not isinstance(error, RuntimeError):
        return False
    if type(error).__name__.startswith("Dist"):
        return True
    distributed: Any = sys.modules.get("torch.distributed")
    words = str(error).lower()
    is_together = distributed is not None and bool(distributed.is_initialized())
    return "gloo/" in words or (is_together and ("gloo" in words or "nccl" in words))


def _append(path: Path, words: str) -> None:
    with contextlib.suppress(OSError), path.open("ab") as file:
        file.write(utf8(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {words}\n"))
