"""Two sweeps work on one study in a real PostgreSQL database, also if one of them is killed."""

import os
import signal
import subprocess
import sys
import time

import optuna
import pytest
from optuna.trial import TrialState

from src.core import run_record
from tests.conftest import ROOT, THREADS, TINY
from tests.sweep.postgres import INITDB, NOT_HERE, Server

pytestmark = [pytest.mark.slow, pytest.mark.skipif(INITDB is None, reason=NOT_HERE)]

TRIALS = 6
SEARCH = (*TINY, "model=fc", "test=false", "trainer.max_epochs=20", "hydra/sweeper=optuna",
          f"hydra.sweeper.n_trials={TRIALS}", "hydra.sweeper.study_name=fc",
          "hydra.sweeper.pruner=null", "checkpoint.every_n_batches=1",
          "model.optimizer.lr=tag(log, interval(1e-4, 1e-1))")  # fmt: skip


@pytest.fixture
def server():
    pytest.importorskip("psycopg", reason="psycopg is missing: pip install 'psycopg[binary]'")
    running = Server()
    yield running
    running.stop()


def start(*args: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "src.train", *args],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(THREADS)},
    )


def is_training(folder) -> bool:
    """Return whether the second job of the sweep in `folder` trains."""
    jobs = [path.parent for path in folder.glob("*/run.json")]
    busy = [job for job in jobs if not (job / "metrics.json").exists()]
    return len(jobs) >= 2 and any((job / "checkpoints" / "last.ckpt").exists() for job in busy)


def test_no_trial_of_a_shared_study_is_lost_or_run_twice(server, tmp_path):
    folders = [tmp_path / name for name in "ab"]
    commands = [
        start("-m", *SEARCH, f"hydra.sweeper.storage={server.url}", f"hydra.sweep.dir={folder}")
        for folder in folders
    ]
    deadline = time.monotonic() + 240
    while not is_training(folders[0]):
        assert commands[0].poll() is None, commands[0].communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    commands[0].send_signal(signal.SIGKILL)
    commands[0].communicate()
    _, stderr = commands[1].communicate(timeout=300)
    assert commands[1].returncode == 0, stderr
    again = start(f"resume={folders[0]}")
    stdout, stderr = again.communicate(timeout=300)
    assert again.returncode == 0, stderr
    assert stdout.count("finished") == TRIALS, "the table has the trials of both"

    study = optuna.load_study(study_name="fc", storage=server.url)
    ran = [trial for trial in study.trials if "surplus" not in trial.user_attrs]
    assert [trial.state for trial in ran] == [TrialState.COMPLETE] * TRIALS
    jobs = {path.parent for folder in folders for path in folder.glob("*/run.json")}
    assert len(jobs) == TRIALS
    attributes = [trial.user_attrs for trial in ran]
    assert set(map(str, jobs)) == {
        f"{own['sweep']}/{name}" for own in attributes for name in own["folders"]
    }
    sessions = sorted(len(run_record.read(job)["sessions"]) for job in jobs)
    assert sessions == [1] * (TRIALS - 1) + [2], "the trial that was cut is resumed"
    assert all(any(job.parent == folder for job in jobs) for folder in folders)
