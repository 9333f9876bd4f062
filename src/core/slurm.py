"""The job of Slurm that runs this process, as its environment and Slurm's commands describe it."""

import os
import re
import subprocess
import sys

from src.core import runs

SECONDS = 60  # until one of Slurm's commands that does not answer is stopped


def job_id() -> str | None:
    """Return the id of the Slurm job that runs this process; None outside of Slurm."""
    return os.environ.get("SLURM_JOB_ID")


def tasks() -> int:
    """Return how many processes one srun has started together with this one."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))


def is_requeued() -> bool:
    """Return whether Slurm has started this process's job before."""
    return job_id() is not None and os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def requeue_if_preempted() -> None:
    """Put the job of this process into the queue again if Slurm is preempting it.

    Slurm requeues a preempted job that it has to kill, but not one that ends by itself before that,
    as a run does that saves and exits at SIGTERM.
    """
    job = job_id()
    if job is None or not runs.is_first_process():
        return
    shown = _output("scontrol", "show", "job", job)
    if re.search(r"\bPreemptTime=\d", shown) and "Requeue=1" in shown:
        _output("scontrol", "requeue", job)
        print(f"Slurm preempts job {job}: it is requeued and will resume", file=sys.stderr)


def is_in_queue(job: str) -> bool:
    """Return whether a job waits, runs or ends; True also if Slurm does not answer.

    Args:
        job: its id; 12_0 is a task of the array 12.
    """
    result = _run("squeue", "--noheader", "--jobs", job, "--format=%T")
    if result is None or (result.returncode and "Invalid job id" not in result.stderr):
        return True
    return bool(result.stdout.strip())


def _output(*command: str) -> str:
    result = _run(*command)
    return "" if result is None else result.stdout


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    """Run one of Slurm's commands; return None if it is missing or does not answer."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
