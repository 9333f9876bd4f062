"""Run a job of a sweep, in the process that a launcher chose, and read its outcome."""

import shlex
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from src.config.compose import complete
from src.config.jobs import Task, chosen, run_alone
from src.config.objective import Objective, objective_values
from src.core import run_record, runs
from src.core.errors import Incomplete, Interrupted, TrainingFailed, UserError, user_error_line
from src.core.run_search import has_checkpoint
from src.sweep import cluster
from src.sweep.progress import Progress


@dataclass(frozen=True)
class Job:
    """A run of a sweep.

    Attributes:
        folder: its folder, in that of the sweep.
        overrides: all its settings.
        values: the text of each swept key.
        trial: the number of its trial in a search; in a grid, its position.
        trial_id: the id of the trial in the study's storage; None in a grid.
        is_prunable: whether a pruner may end it: the first run of a trial.
    """

    folder: Path
    overrides: list[str]
    values: dict[str, str]
    trial: int
    trial_id: int | None = None
    is_prunable: bool = False

    @property
    def name(self) -> str:
        """The name of its folder: what differs."""
        return self.folder.name


class Outcome(NamedTuple):
    """The state and the result of a job, read from its folder.

    Attributes:
        state: one of run_record.STATES, or `waiting`.
        values: the value of each objective, of a finished job.
        error: why it failed.
    """

    state: str
    values: list[float] | None = None
    error: str | None = None


def outcome(folder: Path, wanted: list[Objective], strict: bool = True) -> Outcome:
    """Return the outcome of the job in `folder`.

    A finished job whose objective is not finite counts as failed.

    Args:
        strict: raise UserError if a finished job has no metric of that name.
    """
    record = run_record.read(folder)
    if not record:
        return Outcome("waiting")
    state = run_record.state_of(folder, record)
    error = record["sessions"][-1].get("error")
    if state != run_record.FINISHED:
        return Outcome(state, error=error)
    metrics = runs.read_metrics(folder)
    if not strict and any(metric not in metrics for metric, _ in wanted):
        return Outcome(state)
    values = objective_values(metrics, wanted)
    if any(value != value for value in values):
        names = ", ".join(metric for metric, _ in wanted)
        return Outcome(run_record.FAILED, error=f"objective {names} is not finite")
    return Outcome(state, values)


class JobRunner:
    """The function that Hydra's launcher calls for each job, perhaps in another process.

    A job that was interrupted continues from its checkpoint. One that fails writes its error to
    stderr and to its train.log, and the others go on.

    Args:
        config_name: conf/`config_name`.yaml.
        task: the function that runs a job.
        wanted: the objectives.
        strict: whether a finished job must have them.
        progress: prints how far the sweep is.
        pruning: settings of the callback that ends a trial early; None: none does.

    Attributes:
        jobs: the jobs that are launched, by name.
    """

    def __init__(
        self,
        config_name: str,
        task: Task,
        wanted: list[Objective],
        strict: bool,
        progress: Progress,
        pruning: dict[str, Any] | None,
    ) -> None:
        self.config_name, self.task = config_name, task
        self.wanted, self.strict = wanted, strict
        self.progress, self.pruning = progress, pruning
        self.jobs: dict[str, Job] = {}

    def __call__(self, cfg: DictConfig) -> float | list[float]:
        """Run the job that Hydra has composed; return its objectives, NaN if it fails."""
        folder = Path(HydraConfig.get().runtime.output_dir)
        job = self.jobs[folder.name]
        complete(cfg)
        command = shlex.join(["python", "-m", f"src.{self.config_name}", *job.overrides])
        if has_checkpoint(folder):
            cfg.resume = str(folder)
        _say(self.progress.start(folder, job.values, is_resumed=cfg.resume is not None))

        def train(cfg: DictConfig, folder: Path) -> Any:
            return self.task(self._with_callbacks(cfg, job), folder)

        try:
            run_alone(train, cfg, folder, chosen(), command)
        except Interrupted as stop:
            cluster.leave(stop.signum)
            raise
        except Exception as error:  # any error: the other jobs must still run
            words = user_error_line(error)
            if not isinstance(error, UserError | TrainingFailed | Incomplete):
                words = traceback.format_exc().rstrip()
            _say(f"job {folder.name} failed: {words}")
        try:
            result = outcome(folder, self.wanted, self.strict)
        except UserError:  # there is no such metric: the command that launched this job says so
            return float("nan")
        _say(self.progress.end(folder))
        values = result.values or [float("nan")] * len(self.wanted)
        return values if len(values) > 1 else values[0]

    def _with_callbacks(self, cfg: DictConfig, job: Job) -> DictConfig:
        """Return the config with what only a job of a sweep needs, which is not saved."""
        cfg = cfg.copy()
        OmegaConf.set_struct(cfg, False)
        if self.pruning is not None and job.is_prunable:
            cfg.callbacks.pruning = {**self.pruning, "trial_id": job.trial_id}
        for node in (cfg.logger or {}).values():
            if str(node._target_).endswith(".TensorBoard"):
                node.columns = [key.lstrip("+~") for key in job.values]
                node.metrics = [metric for metric, _ in self.wanted]
        return cfg


def _say(line: str) -> None:
    if runs.is_first_process():
        print(line, file=sys.stderr, flush=True)
