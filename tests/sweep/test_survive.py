"""Sweeps as a user runs them: killed and continued, pruned, in other processes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from src.core import run_record
from tests.conftest import ROOT, THREADS, TINY, command

LONG = (*TINY, "model=fc", "test=false", "callbacks=none", "trainer.max_epochs=300",
        "checkpoint.every_n_batches=1")  # fmt: skip
SEARCH = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.pruner=null",
          "model.optimizer.lr=tag(log, interval(1e-4, 1e-2))")  # fmt: skip


def kill_in(folder, trial, *args):
    """Start a sweep and kill it while its job number `trial` trains; return the job's folder."""
    process = subprocess.Popen(
        [sys.executable, "-m", "src.train", "-m", *args],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": str(THREADS)},
    )
    deadline = time.monotonic() + 240
    while True:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        jobs = sorted(folder.glob("lr=*/run.json"), key=lambda path: path.parent.stat().st_ctime)
        busy = [path.parent for path in jobs if not (path.parent / "metrics.json").exists()]
        is_late = len(jobs) == trial and busy and (busy[0] / "checkpoints/last.ckpt").exists()
        if is_late and (busy[0] / "metrics.csv").exists():
            break
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return busy[0]


def results(folder):
    """Return the metrics of each job, without those that depend on time."""
    found = {}
    for path in folder.glob("*/metrics.json"):
        values = json.loads(path.read_text())
        found[path.parent.name] = {k: v for k, v in values.items() if k.startswith("val/")}
    return found


@pytest.mark.slow
def test_a_search_killed_twice_equals_one_that_was_not(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert command("train", "-m", *LONG, *SEARCH, f"hydra.sweep.dir={whole}").returncode == 0
    first = kill_in(cut, 1, *LONG, *SEARCH, f"hydra.sweep.dir={cut}")
    second = kill_in(cut, 2, *LONG, *SEARCH, f"hydra.sweep.dir={cut}")
    assert first != second
    last = command("train", f"resume={cut}")
    assert last.returncode == 0, last.stderr
    assert results(cut) == results(whole)
    sessions = {
        path.name: len(run_record.read(path)["sessions"]) for path in cut.iterdir()
        if (path / "run.json").exists()
    }  # fmt: skip
    assert len(sessions) == 3
    assert sessions[first.name] == sessions[second.name] == 2, "resumed, not started again"
    assert sum(sessions.values()) == 5, "no trial was repeated"
    assert last.stdout.count("finished") == 3
    for folder in (first, second):
        assert "resuming" in (folder / "train.log").read_text()
    again = command("train", "-m", *LONG, *SEARCH, f"hydra.sweep.dir={cut}")
    assert again.returncode == 0, again.stderr
    assert "Classifier on" not in again.stderr, "nothing is left to train"


@pytest.mark.slow
def test_a_pruned_run_ends_early_with_complete_files(tmp_path):
    """The pruner of this test ends every run whose loss is above 0."""
    result = command(
        "train", "-m", *TINY, "model=fc", "trainer.max_epochs=4", "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=1", "model.optimizer.lr=interval(0.01,0.1)",
        "hydra.sweeper.pruner._target_=optuna.pruners.ThresholdPruner",
        "hydra.sweeper.pruner.upper=0", "hydra.sweeper.pruner.n_warmup_steps=1",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "sweep").glob("lr=*")
    session = run_record.read(folder)["sessions"][-1]
    assert session["state"] == "pruned"
    assert "error" not in session
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["batches"] == 4, "one epoch of 100 images"
    assert "val/loss" in metrics
    assert "test/loss" not in metrics
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert "pruned after 4 batches" in (folder / "train.log").read_text()
    assert "pruned" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_jobs_in_other_processes_are_in_the_table(tmp_path, launcher):
    jobs = ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    result = command(
        "train", "-m", *TINY, "model=fc", "trainer.max_epochs=1", "model.optimizer.lr=0.1,0.01",
        f"hydra/launcher={launcher}", *jobs, f"hydra.sweep.dir={tmp_path}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("finished") == 2
    assert (tmp_path / "sweep.csv").read_text().count("finished") == 2
    assert (tmp_path / "best.yaml").is_file()
