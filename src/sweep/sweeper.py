"""Run a sweep: ask a strategy for jobs, launch them, record their outcomes, report.

All that must survive a kill is in the folders of the jobs and in the storage of the study, so a
sweep continues from there: with the same command, or with resume=SWEEP.

If several processes train each job (DDP), Lightning starts this command again for the other ranks.
They run the same jobs, starting with the one that is running, and report nothing.
"""

import sys
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from src.config import hydra_app
from src.config.cli import RunFolder
from src.config.compose import first_lines
from src.config.jobs import Task
from src.config.overrides import setting
from src.core import new_runs, run_record, run_search, runs
from src.core.errors import Incomplete, Interrupted, UserError
from src.core.files import write_atomically
from src.core.study import repair
from src.sweep import cluster
from src.sweep.job import Job, JobRunner, outcome
from src.sweep.plan import FOLDER, Plan, resumed_overrides
from src.sweep.progress import Progress
from src.sweep.report import report

CUT = (run_record.INTERRUPTED, "waiting")  # states of jobs that continue when the sweep does


def run_sweep(config_name: str, task: Task, overrides: list[str], run_folder: RunFolder) -> None:
    """Run the sweep of a command line.

    Args:
        config_name: conf/`config_name`.yaml.
        task: the function that runs a job.
        overrides: those of the command line.
        run_folder: names the folder of the sweep to continue; else it gets the new one.

    Raises:
        UserError: the sweep cannot start.
        Incomplete: some jobs failed.
    """
    if run_folder.folder is not None:
        overrides = resumed_overrides(run_folder.folder, overrides)
    plan = Plan(config_name, overrides)
    if plan.is_search and not runs.is_first_process():
        raise UserError("hydra/sweeper=optuna trains a trial in one process: trainer.devices=1")
    with plan.open_folder(run_folder) as folder:
        sys.argv.append(setting(FOLDER, folder))  # Lightning starts a job's other ranks with it
        is_new = not run_search.is_sweep(folder)
        _expect_unused(folder)
        try:
            if runs.is_first_process():
                repair(folder)
            _run(plan, task, folder)
        except UserError:
            if is_new:
                new_runs.discard(folder, parents=not run_folder.is_named)
            raise


def _expect_unused(folder: Path) -> None:
    """Raise UserError if a process of an earlier session still runs a job."""
    for path in folder.glob(f"*/{run_record.NAME}"):
        if runs.is_first_process() and runs.is_locked(path.parent):
            with runs.locked(path.parent):  # raises, and says which process it is
                pass


def _run(plan: Plan, task: Task, folder: Path) -> None:
    strategy = plan.strategy(folder)
    waiting = [job.name for job in strategy.waiting]
    progress = Progress(folder, strategy.total, plan.wanted, waiting)
    runner = JobRunner(plan.config_name, task, plan.wanted, plan.strict, progress, strategy.pruning)
    broken = ""
    with hydra_app.launcher(plan.config_name, plan.all_overrides(folder), runner) as found:
        cfg, launcher = found
        _save(cfg, folder)
        try:
            while jobs := strategy.next_jobs():
                broken = _launch(launcher, runner, jobs)
                for job in jobs:
                    result = outcome(job.folder, plan.wanted, plan.strict)
                    if result.state not in CUT:
                        strategy.finish(job, result)
                if broken:
                    break
        except (Interrupted, KeyboardInterrupt):
            print(
                f"sweep stopped: {progress.count()} of {strategy.total} jobs done; continue it "
                f"with: {runs.resume_command(folder)}",
                file=sys.stderr,
            )
            raise
    if not runs.is_first_process():
        return
    states = report(plan.config_name, strategy.jobs(), plan.candidates, plan.strict, folder)
    again = f"continue the sweep with: {runs.resume_command(folder)}"
    if broken:
        raise Incomplete(f"sweep {folder} failed: {broken}; {again}")
    if failed := [path.name for path, state in states.items() if state == run_record.FAILED]:
        raise Incomplete(
            f"{len(failed)} of {strategy.total} jobs failed: {', '.join(failed)}; "
            f"the train.log of each, in {folder}, says why"
        )
    own = [path for path in states if path.parent.absolute() == folder.absolute()]
    if cut := [path.name for path in own if states[path] in CUT]:
        raise Incomplete(f"{len(cut)} of {strategy.total} jobs were cut: {', '.join(cut)}; {again}")


def _launch(launcher: Launcher, runner: JobRunner, jobs: list[Job]) -> str:
    """Run `jobs`; return why the launcher failed, empty if it did not."""
    runner.jobs = {job.name: job for job in jobs}
    for job in jobs:
        if runs.is_first_process() and job.folder.is_dir():
            with runs.locked(job.folder):
                new_runs.discard(job.folder, parents=False)  # unless it has a checkpoint
    batch: Any = [
        [
            *job.overrides,
            setting("hydra.sweep.subdir", Path(job.name)),
            setting("hydra.run.dir", job.folder),
        ]
        for job in jobs
    ]
    ends = (runner.progress.end(job.folder) for job in jobs)
    try:
        with cluster.waiting_for_all(launcher, lambda: print(next(ends), file=sys.stderr)):
            launcher.launch(batch, initial_job_idx=min(job.trial for job in jobs))
    except UserError:
        raise
    except Exception as error:  # a process that ran a job has died, a cluster has refused it
        return first_lines(error)
    return ""


def _save(cfg: DictConfig, folder: Path) -> None:
    """Write the config of the sweep, from which resume= continues it."""
    if runs.is_first_process():
        text = OmegaConf.to_yaml(cfg)
        path = folder / run_search.MULTIRUN
        write_atomically(path, lambda to: to.write_text(text, encoding="utf-8"))
