"""Sweeps: a failed job is reported at once and in its log, and the other jobs continue."""

import os
import signal
import subprocess
import sys
import time

import pytest

from src.core import run_record
from tests.conftest import ROOT, TINY, command, wrong

SWEEP = (*TINY, "model=fc", "trainer.max_epochs=1", "data.download=false")


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """Run a sweep whose second and fourth job find no data; return its folder and its output."""
    folder = tmp_path_factory.mktemp("sweep") / "sweep"
    return folder, command(
        "train", "-m", *SWEEP, "seed=0,1", "data=digits,mnist", f"data.root={folder.parent}",
        f"hydra.sweep.dir={folder}",
    )  # fmt: skip


@pytest.mark.slow
def test_other_jobs_continue_and_the_last_line_names_those_that_failed(half):
    folder, result = half
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last == (
        "2 of 4 jobs failed: seed=0,data=mnist, seed=1,data=mnist; "
        f"the train.log of each, in {folder}, says why"
    )
    assert {path.parent.name for path in folder.glob("*/metrics.json")} == {
        "seed=0,data=digits",
        "seed=1,data=digits",
    }


@pytest.mark.slow
def test_a_failed_job_is_reported_at_once(half):
    _, result = half
    lines = result.stderr.splitlines()
    at = next(
        i
        for i, line in enumerate(lines)
        if line.startswith("job seed=0,data=mnist failed: mnist: ")
    )
    assert any("Classifier on digits" in line for line in lines[at:])  # job 2 comes behind it


@pytest.mark.slow
def test_a_failed_job_keeps_its_config_and_its_log(half):
    folder, _ = half
    good, bad = folder / "seed=0,data=digits", folder / "seed=0,data=mnist"
    assert (bad / ".hydra" / "config.yaml").is_file()
    assert f"error: mnist: {folder.parent}" in (bad / "train.log").read_text()
    assert "error: " not in (good / "train.log").read_text()
    records = [run_record.read(path) for path in (good, bad)]
    assert [record["sessions"][0]["state"] for record in records] == ["finished", "failed"]
    assert "seed=0 data=mnist" in records[1]["sessions"][0]["command"], "repeats this job alone"


def test_a_single_run_does_not_resume_as_a_sweep(tmp_path):
    assert "remove -m" in wrong(command("train", "-m", f"resume={tmp_path}", "seed=0,1"))


@pytest.mark.slow
def test_ctrl_c_ends_the_sweep_and_says_how_to_continue(tmp_path):
    args = [
        *TINY,
        "model=fc",
        "trainer.max_epochs=1,5000,2",
        f"hydra.sweep.dir={tmp_path}",
        "test=false",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "src.train", "-m", *args],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    deadline = time.monotonic() + 200
    folder = tmp_path / "max_epochs=5000"
    while not (folder / "checkpoints" / "last.ckpt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stderr.strip().splitlines()[-1] == (
        f"sweep stopped: 1 of 3 jobs done; continue it with: python -m src.train resume={tmp_path}"
    )
    assert not (tmp_path / "max_epochs=2").exists()
