"""Jobs that Hydra runs: one, or those of a sweep, of which each says when it fails, and all together what became of them."""

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

from src import run
from src.composing import CONF, complete, first_lines
from src.errors import Incomplete, Interrupted, UserError, plain_line

Task = Callable[[DictConfig, Path], Any]


class Sweep:
    """The jobs of a sweep, run by Hydra's sweeper and launcher.

    A job that fails writes its line to stderr and to the train.log of its folder, which stays; the others go on.

    Args:
        config_name: conf/`config_name`.yaml.
        task: what a job does.
        folder: of the sweep.
        jobs: the overrides of each.
    """

    def __init__(self, config_name: str, task: Task, folder: Path, jobs: list[list[str]]) -> None:
        self.config_name, self.task, self.folder, self.count = config_name, task, folder, len(jobs)
        self.shared = set(jobs[0]).intersection(*jobs)  # what all jobs have says nothing of one
        self.begun: list[str] = []
        self.done: list[str] = []
        self.failed: list[str] = []

    def run(self) -> None:
        """Run all jobs. Raises Incomplete where some fail."""
        try:
            through_hydra(self.config_name, self._job)
        except (Interrupted, KeyboardInterrupt):
            print(self._state(), file=sys.stderr)
            raise
        except UserError:
            if not self.begun:
                run.discard(self.folder, parents=False)
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
            result = self.task(cfg, folder)
        except Exception as error:
            self.failed.append(name)
            known = isinstance(error, UserError | Incomplete)
            words = plain_line(error) if known else traceback.format_exc().rstrip()
            print(f"job {name} failed: {words}", file=sys.stderr)
            _append(folder / "train.log", f"error: {words}")
            if not str(job.launcher._target_).endswith(".BasicLauncher"):
                raise  # only so does the process that launched it hear of it
            return float("nan")  # which a sweeper that searches takes for a failure
        self.done.append(name)
        return result

    def _state(self) -> str:
        """What became of the jobs of a sweep that is stopped."""
        stopped = [name for name in self.begun if name not in (*self.done, *self.failed)]
        parts = [
            f"{words} {', '.join(names)}"
            for words, names in (("done", self.done), ("failed", self.failed), ("stopped", stopped))
            if names
        ]
        if waiting := self.count - len(self.begun):
            parts.append(f"not begun {waiting}")
        return f"sweep {self.folder} stopped; jobs: {'; '.join(parts)}"


def through_hydra(config_name: str, job: Callable[[DictConfig], Any]) -> None:
    """Have Hydra call `job` for sys.argv. Raises UserError for what Hydra itself refuses."""
    begun: list[bool] = []

    def marked(cfg: DictConfig) -> Any:
        begun.append(True)
        return job(cfg)

    wants_traceback = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # it then raises, and prints no tracebacks of its own
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(marked)()
    except UserError:
        raise
    except Exception as error:
        if begun:
            raise
        raise UserError(f"Hydra cannot begin: {first_lines(error)}") from error
    finally:
        if not wants_traceback:
            del os.environ["HYDRA_FULL_ERROR"]


def _append(path: Path, words: str) -> None:
    with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {words}\n")
