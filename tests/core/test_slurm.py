"""The state of a Slurm job, and the run that a requeued job continues."""

import pytest
from omegaconf import OmegaConf

from src.config.cli import RunFolder
from src.core import slurm
from src.core.errors import UserError
from src.core.run_search import MULTIRUN, requeued_runs
from src.sweep.plan import Plan
from tests.runs.folders import make_run


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Return a function that puts a shell script with that name first into the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def make(name: str, text: str):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    return make


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("echo PENDING", True),
        ("exit 0", False),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", False),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", True),
    ],
)
def test_a_job_has_ended_only_if_slurm_says_so(program, answer, expected):
    program("squeue", answer)
    assert slurm.is_in_queue("12_0") == expected


@pytest.mark.parametrize(
    ("shown", "is_requeued"),
    [
        ("Requeue=1 Restarts=0 PreemptTime=2026-11-26T14:24:43", True),
        ("Requeue=1 Restarts=0 PreemptEligibleTime=2026-11-26T14:24:29 PreemptTime=None", False),
        ("Requeue=0 Restarts=0 PreemptTime=2026-11-26T14:24:43", False),
    ],
)
def test_a_job_is_requeued_if_slurm_preempts_it(program, tmp_path, monkeypatch, shown, is_requeued):
    program("scontrol", f'[ "$1" = show ] && echo "{shown}" || echo "$@" >>{tmp_path / "asked"}')
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    slurm.requeue_if_preempted()
    asked = tmp_path / "asked"
    assert (asked.read_text() if asked.exists() else "") == ("requeue 7\n" if is_requeued else "")


def test_a_requeued_job_finds_its_own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    make_run(tmp_path / "runs" / "other", slurm_job="6")
    make_run(tmp_path / "runs" / "empty", slurm_job="7", checkpoint=False)
    ours = make_run(tmp_path / "runs" / "ours", slurm_job="7")
    assert list(requeued_runs(tmp_path)) == [], "the job starts for the first time"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert list(requeued_runs(tmp_path)) == [ours]


def test_tasks_of_one_srun_need_a_named_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(UserError, match="2 tasks of one srun train one model: name its folder"):
        RunFolder().wanted("train", [], "hydra.run.dir")
    named = RunFolder().wanted("train", [f"hydra.run.dir={tmp_path}"], "hydra.run.dir")
    assert named == tmp_path


def test_a_requeued_job_continues_its_sweep(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    settings = ["model=fc", "seed=0,1", f"out={tmp_path}"]
    ours = tmp_path / "sweep" / "ours"
    for sweep, seeds in ((ours, "0,1"), (tmp_path / "sweep" / "other", "2,3")):
        make_run(sweep / "seed=0", slurm_job="7")
        task = ["model=fc", f"seed={seeds}", f"out={tmp_path}"]
        OmegaConf.save({"hydra": {"overrides": {"task": task, "hydra": []}}}, sweep / MULTIRUN)
    with Plan("train", settings).open_folder(RunFolder()) as folder:
        assert folder == ours
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    with Plan("train", settings).open_folder(RunFolder()) as folder:
        assert folder != ours
