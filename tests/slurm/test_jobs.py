"""Jobs of Slurm that are canceled, preempted or out of time resume and end bit-equal."""

import re
import sys

import pytest

from src.core import run_record
from tests.conftest import ROOT
from tests.slurm.cluster import until
from tests.slurm.runs import RUN, assert_resumed, assert_saved_last_batch, wait_for_training

pytestmark = pytest.mark.slow

DDP = (*RUN, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")


@pytest.fixture(scope="module")
def uninterrupted(cluster, tmp_path_factory):
    """The folder of a run outside of Slurm that was never interrupted."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    result = cluster.train(*RUN, f"hydra.run.dir={folder}")
    assert result.returncode == 0, result.stderr
    return folder


def script(launch: str, *args: str) -> str:
    command = " ".join((launch, sys.executable, "-m src.train", *args))
    return f"#!/bin/bash\n{command}\n"


def assert_a_requeued_job_resumes(cluster, job, uninterrupted, folder):
    cluster.set_pause(0)
    cluster.run("scontrol", "requeue", job)
    cluster.start_again(job)
    cluster.wait_for(job, "COMPLETED")
    assert_resumed(uninterrupted, folder)
    assert "Traceback" not in cluster.log(job)


@pytest.mark.parametrize("launch", ["srun", "exec"])
def test_a_canceled_job_is_saved_and_resumes_when_it_is_requeued(
    cluster, uninterrupted, tmp_path, launch
):
    folder = tmp_path / "run"
    cluster.set_pause(0.1)
    job = cluster.submit(script(launch, *RUN, f"hydra.run.dir={folder}"))
    wait_for_training(folder)
    cluster.run("scancel", job)
    cluster.wait_for(job, "CANCELLED")
    assert_saved_last_batch(folder)
    assert_a_requeued_job_resumes(cluster, job, uninterrupted, folder)


@pytest.mark.parametrize("launch", ["srun", "exec"])
def test_a_job_that_reaches_its_time_limit_is_saved_and_resumes(
    cluster, uninterrupted, tmp_path, launch
):
    folder = tmp_path / "run"
    cluster.set_pause(0.5)
    job = cluster.submit(script(launch, *RUN, f"hydra.run.dir={folder}"), "--time=1")
    cluster.wait_for(job, "TIMEOUT")
    assert_saved_last_batch(folder)
    assert_a_requeued_job_resumes(cluster, job, uninterrupted, folder)


def test_the_documented_script_continues_until_the_run_is_done(cluster, uninterrupted, tmp_path):
    page = (ROOT / "docs" / "slurm.md").read_text()
    text = re.search(r"```bash\n(.*?)```", page, re.DOTALL)[1]
    for shown, given in {
        "--time=04:00:00": "--time=2",
        "USR1@120": "USR1@30",
        "python -m": f"{sys.executable} -m",
        "model=dcgan data=mnist": " ".join((*RUN, f"out={tmp_path}")),
    }.items():
        assert text.count(shown) == 1
        text = text.replace(shown, given)
    cluster.set_pause(0.5)
    job = cluster.submit(text)
    cluster.wait_for(job, "RUNNING")
    cluster.wait_for(job, "PENDING")
    (folder,) = (path.parent for path in tmp_path.glob("*/*/run.json"))
    assert_saved_last_batch(folder)
    cluster.set_pause(0)
    cluster.start_again(job)
    cluster.wait_for(job, "COMPLETED")
    assert_resumed(uninterrupted, folder)
    assert "Traceback" not in cluster.log(job)


@pytest.mark.parametrize("partition", ["low", "grace"])
def test_a_preempted_job_resumes_in_the_same_folder(cluster, uninterrupted, tmp_path, partition):
    """In `low` Slurm requeues it; in `grace` it ends before Slurm would, and requeues itself."""
    cluster.set_pause(0.1)
    job = cluster.submit(script("srun", *RUN, f"out={tmp_path}"), f"--partition={partition}")
    until(lambda: list(tmp_path.glob("*/*/run.json")), lambda: cluster.log(job))
    (folder,) = (path.parent for path in tmp_path.glob("*/*/run.json"))
    wait_for_training(folder)
    cluster.preempt()
    cluster.set_pause(0)
    cluster.wait_for(job, "PENDING")
    assert_saved_last_batch(folder)
    cluster.start_again(job)
    cluster.wait_for(job, "COMPLETED")
    assert_resumed(uninterrupted, folder)
    assert [path.parent for path in tmp_path.glob("*/*/run.json")] == [folder]
    assert "Traceback" not in cluster.log(job)


def test_two_tasks_of_one_srun_train_one_model_and_resume(cluster, tmp_path):
    """The same as two processes that Lightning starts without Slurm."""
    uninterrupted, folder = tmp_path / "uninterrupted", tmp_path / "run"
    cluster.set_pause(0)
    result = cluster.train(*DDP, f"hydra.run.dir={uninterrupted}")
    assert result.returncode == 0, result.stderr
    cluster.set_pause(0.1)
    job = cluster.submit(
        script("srun", *DDP, f"hydra.run.dir={folder}"), "--ntasks-per-node=2", "--partition=low"
    )
    wait_for_training(folder)
    cluster.preempt()
    cluster.wait_for(job, "PENDING")
    assert_saved_last_batch(folder)
    cluster.set_pause(0)
    cluster.start_again(job)
    cluster.wait_for(job, "COMPLETED")
    assert_resumed(uninterrupted, folder)
    assert run_record.read(folder)["sessions"][-1]["processes"] == 2
    assert "Traceback" not in cluster.log(job)
