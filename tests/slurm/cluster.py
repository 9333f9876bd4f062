"""A Slurm cluster of one node on this machine, for the tests."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import ROOT

TOOL = ROOT.parent / "shared" / "tools" / "one-node-slurm"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
MISSING = [name for name in PROGRAMS if not shutil.which(name)]
NOT_HERE = (
    f"{MISSING[0]} is missing: apt-get install --no-install-recommends munge slurm-wlm"
    if MISSING
    else f"{TOOL} is missing"
)
IS_HERE = not MISSING and TOOL.is_file()
PARTITIONS = """
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=10
PartitionName=low Nodes=ALL PriorityTier=1 GraceTime=0
PartitionName=grace Nodes=ALL PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL PriorityTier=9 PreemptMode=OFF
"""
ENDS = ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL")
SECONDS = 240  # until something that a test waits for must have happened


class Cluster:
    """A running cluster. Jobs of `low` and `grace` are preempted by those of `urgent`.

    Args:
        folder: of its configuration and logs.

    Attributes:
        environment: for a process that uses the cluster, or is compared with one that does.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pause = folder / "pause"
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(__file__).parent / "slow"),
            "PAUSE_FILE": str(self.pause),
        }
        # tests that run side by side would share the CPUs of this node
        self.lock = (Path(tempfile.gettempdir()) / "atelier-slurm.lock").open("w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self._tool("start")
        with (folder / "slurm.conf").open("a") as file:
            file.write(PARTITIONS)
        self.run("scontrol", "reconfigure")
        self.set_pause(0)

    def stop(self) -> None:
        self._tool("stop")
        self.lock.close()

    def _tool(self, action: str) -> None:
        # nproc, by which the node gets its CPUs, heeds OMP_NUM_THREADS
        environment = {k: v for k, v in self.environment.items() if k != "OMP_NUM_THREADS"}
        subprocess.run([TOOL, action, self.folder], check=True, env=environment, timeout=120)

    def set_pause(self, seconds: float) -> None:
        """Have each training batch of all jobs wait so long."""
        self.pause.write_text(str(seconds))

    def run(self, *command: str) -> str:
        """Run a command and return its stdout."""
        result = subprocess.run(
            command, check=True, env=self.environment, capture_output=True, text=True, timeout=120
        )
        return result.stdout

    def submit(self, script: str, *options: str) -> str:
        """Submit a batch script; return the id of the job. Its output is in `log`."""
        path = self.folder / "job.sh"
        path.write_text(script)
        own = ("--open-mode=append", f"--output={self.folder}/%j.log", f"--chdir={ROOT}")
        return self.run("sbatch", *own, *options, str(path)).split()[-1]

    def log(self, job: str) -> str:
        """Return what a job of `submit` has printed."""
        path = self.folder / f"{job}.log"
        return path.read_text() if path.exists() else ""

    def state(self, job: str) -> str:
        """Return the state of a job, such as RUNNING."""
        return re.search(r"JobState=(\w+)", self.run("scontrol", "show", "job", job))[1]

    def wait_for(self, job: str, *states: str) -> str:
        """Wait until a job has one of the states; return it. Fail if it has ended in another."""

        def has_state() -> bool:
            state = self.state(job)
            assert state in states or state not in ENDS, f"{state}: {self.log(job)}"
            return state in states

        until(has_state, lambda: f"{self.state(job)}: {self.log(job)}")
        return self.state(job)

    def preempt(self) -> None:
        """Run a short job that needs all CPUs and goes before others; wait until it starts."""
        job = self.submit("#!/bin/bash\nexit 0\n", "--partition=urgent", "--exclusive")
        self.wait_for(job, "COMPLETED")

    def start_again(self, job: str) -> None:
        """Start a job that waits after it was requeued; Slurm would wait two minutes."""
        self.wait_for(job, "PENDING")
        time.sleep(2)  # Slurm compares the times of both starts, in whole seconds
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now")

    def train(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m src.train ARGS`, as a user of the cluster does, until it ends."""
        return self.start_train(*args).finish()

    def start_train(self, *args: str) -> "Command":
        """Start `python -m src.train ARGS`."""
        return Command(args, self.environment)


class Command:
    """A running `python -m src.train`."""

    def __init__(self, args: tuple[str, ...], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "src.train", *args],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def finish(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end; return its exit code and its output."""
        stdout, stderr = self.process.communicate(timeout=2 * SECONDS)
        return subprocess.CompletedProcess([], self.process.returncode, stdout, stderr)


def until(condition: Callable[[], object], what: Callable[[], str] = str) -> None:
    """Wait until `condition` holds; fail after SECONDS with the text of `what`."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.5)
