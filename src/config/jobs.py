"""Run the jobs of Hydra: a single run, or the runs of a sweep. Report those that fail."""

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from src.config.compose import CONF, complete, first_lines
from src.core import runs
from src.core.errors import (
    Incomplete,
    Interrupted,
    TrainingFailed,
    UserError,
    refusal,
    user_error_line,
)

Task = Callable[[DictConfig, Path], Any]


def run_once(
    config_name: str, arguments: list[str], task: Task, folder: Path, is_named: bool
) -> None:
    """Run one job in `folder`, which `arguments` name.

    A wrong setting removes the folder, and empty folders above it unless `is_named` (the user chose
    the name).
    """
    raised: list[Exception] = []

    def job(cfg: DictConfig) -> Any:
        try:
            complete(cfg)
            return run_alone(task, cfg, Path(HydraConfig.get().runtime.output_dir))
        except (UserError, TrainingFailed) as error:
            raised.append(error)  # past Hydra, which would announce it in words of its own

    try:
        through_hydra(config_name, arguments, job)
        for error in raised:
            raise error
    except UserError:
        runs.discard(folder, parents=not is_named)
        raise
    except OSError as error:  # Hydra writes the config
        raise failure(error, folder) or error from error


def run_alone(task: Task, cfg: DictConfig, folder: Path) -> Any:
    """Run `task` in `folder`, locked against other processes. An error is also written to its log.

    Raises TrainingFailed where the machine refuses something: a full disk, a process that is gone.
    """
    try:
        with runs.locked(folder):
            return task(cfg, folder)
    except (UserError, TrainingFailed) as error:
        _append(folder / "train.log", f"error: {user_error_line(error)}")
        raise
    except Incomplete:
        raise
    except Exception as error:  # re-raised, as one line if the machine refused something
        raise failure(error, folder) or error from error


def failure(error: Exception, folder: Path) -> TrainingFailed | None:
    """Return what the machine refused to the run in `folder`, what is safe and what to do.

    None if `error` is of another kind.

    A folder that holds no training is removed.
    """
    again = f"python -m src.train resume={folder}"
    if is_lost_process(error):
        return TrainingFailed(f"another process of this run has ended; to go on: {again}")
    if (refused := refusal(error)) is None:
        return None
    try:
        batches = runs.batches_in(runs.load_last(folder))
        safe, then = f"the checkpoint of batch {batches} is whole", f"go on with: {again}"
    except UserError:
        with contextlib.suppress(OSError):
            runs.discard(folder, parents=False)
        safe, then = "nothing is saved yet", "start the run again"
    return TrainingFailed(f"{refused.reason}; {safe}: {refused.advice}, then {then}")


def is_lost_process(error: Exception) -> bool:
    """Return whether a collective operation failed: a RuntimeError of gloo, or a DistError."""
    words = f"{type(error).__name__} {error}".lower()
    return isinstance(error, RuntimeError) and any(w in words for w in ("gloo", "nccl", "dist"))


class Sweep:
    """The jobs of a sweep, run by Hydra's sweeper and launcher.

    A job that fails writes its error to stderr and to its train.log, and the others continue.

    Args:
        config_name: conf/`config_name`.yaml.
        arguments: of the command line, as Hydra reads them.
        task: what a job does.
        folder: of the sweep.
        jobs: the overrides of each.
    """

    def __init__(
        self,
        config_name: str,
        arguments: list[str],
        task: Task,
        folder: Path,
        jobs: list[list[str]],
    ) -> None:
        self.config_name, self.arguments, self.task = config_name, arguments, task
        self.folder, self.count = folder, len(jobs)
        self.shared = set(jobs[0]).intersection(*jobs)  # what all jobs have says nothing of one
        self.begun: list[str] = []
        self.done: list[str] = []
        self.failed: list[str] = []

    def run(self) -> None:
        """Run all jobs. Raises Incomplete where some fail."""
        try:
            through_hydra(self.config_name, self.arguments, self._job)
        except (Interrupted, KeyboardInterrupt):
            print(self._state(), file=sys.stderr)
            raise
        except UserError:
            if not self.begun:
                runs.discard(self.folder, parents=False)
            raise
        except Exception as error:  # of a launcher that runs jobs in other processes
            raise Incomplete(f"sweep {self.folder} failed: {first_lines(error)}") from error
        if self.failed:
            raise Incomplete(
                f"{len(self.failed)} of {self.count} jobs failed: {', '.join(self.failed)}; "
                f"each one's train.log in {self.folder} says why"
            )

    def _job(self, cfg: DictConfig) -> Any:
        job = HydraConfig.get()
        own = [override for override in job.overrides.task if override not in self.shared]
        folder, name = Path(job.runtime.output_dir), f"{job.job.num} ({' '.join(own)})"
        self.begun.append(name)
        complete(cfg)
        try:
            result = run_alone(self.task, cfg, folder)
        except Exception as error:  # whatever it is, the other jobs still run
            self.failed.append(name)
            words = user_error_line(error)
            if not isinstance(error, UserError | TrainingFailed | Incomplete):
                words = traceback.format_exc().rstrip()
                _append(folder / "train.log", f"error: {words}")
            print(f"job {name} failed: {words}", file=sys.stderr)
            if not str(job.launcher._target_).endswith(".BasicLauncher"):
                raise  # only so does the process that launched it hear of it
            return float("nan")  # which a sweeper that searches takes for a failure
        self.done.append(name)
        return result

    def _state(self) -> str:
        """Return what happened to the jobs of a stopped sweep."""
        stopped = [name for name in self.begun if name not in (*self.done, *self.failed)]
        parts = [
            f"{words} {', '.join(names)}"
            for words, names in (("done", self.done), ("failed", self.failed), ("stopped", stopped))
            if names
        ]
        if waiting := self.count - len(self.begun):
            parts.append(f"not begun {waiting}")
        return f"sweep {self.folder} stopped; jobs: {'; '.join(parts)}"


def through_hydra(config_name: str, arguments: list[str], job: Callable[[DictConfig], Any]) -> None:
    """Have Hydra call `job` for `arguments`, which it and its launchers read from sys.argv.

    Raises UserError for an error of Hydra itself.
    """
    begun: list[bool] = []

    def marked(cfg: DictConfig) -> Any:
        begun.append(True)
        return job(cfg)

    own_arguments, sys.argv = sys.argv, [sys.argv[0], *arguments]
    wants_traceback = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # it then raises, and prints no tracebacks of its own
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(marked)()
    except (UserError, OSError):
        raise
    except Exception as error:  # Hydra and its plugins raise different errors
        if begun:
            raise
        raise UserError(f"Hydra cannot begin: {first_lines(error)}") from error
    finally:
        sys.argv = own_arguments
        if not wants_traceback:
            del os.environ["HYDRA_FULL_ERROR"]


def _append(path: Path, words: str) -> None:
    with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {words}\n")
