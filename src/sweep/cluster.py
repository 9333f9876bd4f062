"""Jobs of a sweep that submitit runs, on a cluster or in processes of this machine."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from src.core import slurm

SECONDS = 10  # between two questions to Slurm
GRACE = 15  # seconds until a result must be visible on a disk that several machines share


@contextmanager
def waiting_for_all(launcher: Any, report: Callable[[], None]) -> Iterator[None]:
    """Have the launcher wait until all jobs have ended, and raise nothing for one without a result.

    The launcher of submitit asks for the result of one job after another, and raises an error at
    the first job that was canceled or has reached its time limit. It asks sacct whether a job has
    ended, which needs Slurm's accounting; without, it waits forever.

    Args:
        launcher: of Hydra. Nothing is done if it does not use submitit.
        report: called after the end of each job, in the order of the jobs.
    """
    if "submitit" not in type(launcher).__module__:
        yield
        return
    import submitit

    jobs: Any = submitit.Job

    def results(job: Any) -> list[None]:
        _wait(job)
        report()
        return [None]

    replaced = jobs.results
    jobs.results = results
    try:
        yield
    finally:
        jobs.results = replaced


def _wait(job: Any) -> None:
    """Wait until a job of submitit has ended, with or without a result."""
    is_slurm = type(job).__name__ == "SlurmJob"
    tasks = [job.task(i) for i in range(job.num_tasks)]
    asked, ended = time.monotonic(), 0.0
    while not (ended and time.monotonic() > ended + GRACE):
        if all(task.paths.result_pickle.exists() for task in tasks):
            return
        if is_slurm and not ended and time.monotonic() > asked + SECONDS:
            asked = time.monotonic()
            ended = 0.0 if slurm.is_in_queue(job.job_id) else asked
        elif not is_slurm and job.done():
            return
        time.sleep(0.5)


def leave(signum: int) -> None:
    """End this process, which submitit started for a job, after a signal has interrupted the job.

    submitit's handler of the signal decides what it means: SIGUSR2 requeues the job, if it may
    start again. Nothing is done in a process that submitit did not start.
    """
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return
    handler = signal.getsignal(signum)
    if signum in (signal.SIGUSR1, signal.SIGUSR2) and callable(handler):
        handler(signum, None)  # ends the process if the job is requeued
    slurm.requeue_if_preempted()
    sys.exit(128 + signum)
