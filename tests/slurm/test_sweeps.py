"""A sweep whose jobs Slurm runs survives what happens to them, and ends with a table."""

import re
from pathlib import Path

import pytest

from src.core import run_record
from tests.slurm.cluster import until
from tests.slurm.runs import RUN, assert_resumed, assert_saved_last_batch, wait_for_training

pytestmark = pytest.mark.slow

RATES = ("0.1", "0.01")
SWEEP = (*RUN, f"model.optimizer.lr={','.join(RATES)}")
ON_SLURM = (*SWEEP, "hydra/launcher=submitit_slurm")


@pytest.fixture(scope="module")
def uninterrupted(cluster, tmp_path_factory):
    """The folder of the sweep without Slurm, which was never interrupted."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "sweep"
    cluster.set_pause(0)
    result = cluster.train("-m", *SWEEP, f"hydra.sweep.dir={folder}")
    assert result.returncode == 0, result.stderr
    return folder


def jobs_of(folder: Path) -> list[Path]:
    return [folder / f"lr={rate}" for rate in RATES]


def job_id(folder: Path, number: int) -> str:
    """Return Slurm's id of a job of the sweep in `folder`."""
    found = [path.name for path in (folder / ".submitit").glob(f"*_{number}")]
    return max(found, key=lambda name: int(name.split("_")[0]))


def logs(folder: Path) -> str:
    return "\n".join(path.read_text() for path in folder.glob(".submitit/*/*.err"))


def test_canceled_and_preempted_jobs_end_in_a_table_and_resume(cluster, uninterrupted, tmp_path):
    folder = tmp_path / "sweep"
    canceled, preempted = jobs_of(folder)
    cluster.set_pause(0.1)
    command = cluster.start_train(
        "-m", *ON_SLURM, "hydra.launcher.partition=low", f"hydra.sweep.dir={folder}"
    )
    for job in (canceled, preempted):
        wait_for_training(job)
    cluster.run("scancel", job_id(folder, 0))
    cluster.preempt()
    cluster.wait_for(job_id(folder, 0), "CANCELLED")
    for job in (canceled, preempted):
        assert_saved_last_batch(job)
    cluster.set_pause(0)
    cluster.start_again(job_id(folder, 1))
    result = command.finish()
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr + logs(folder)
    assert re.search(r"^ *0\.1 .* interrupted$", result.stdout, re.MULTILINE)
    assert re.search(r"^0\.01 .* finished$", result.stdout, re.MULTILINE)
    assert result.stderr.strip().splitlines()[-1] == (
        "1 of 2 jobs were cut: lr=0.1; continue the sweep with: python -m src.train "
        f"resume={folder}"
    )
    assert_resumed(uninterrupted / preempted.name, preempted)
    again = cluster.train(f"resume={folder}")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished") == 2
    assert_resumed(uninterrupted / canceled.name, canceled)
    assert len(run_record.read(preempted)["sessions"]) == 2, "a finished job is not repeated"


def test_jobs_that_reach_their_time_limit_requeue_themselves(cluster, uninterrupted, tmp_path):
    folder = tmp_path / "sweep"
    cluster.set_pause(0.5)
    command = cluster.start_train(
        "-m", *ON_SLURM, "hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=30",
        "hydra.launcher.max_num_timeout=1", f"hydra.sweep.dir={folder}",
    )  # fmt: skip
    until(lambda: all((job / "run.json").exists() for job in jobs_of(folder)))
    for number, job in enumerate(jobs_of(folder)):
        cluster.wait_for(job_id(folder, number), "PENDING")
        assert_saved_last_batch(job)
    cluster.set_pause(0)
    for number in range(len(RATES)):
        cluster.start_again(job_id(folder, number))
    result = command.finish()
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("finished") == 2
    assert "Traceback" not in result.stderr + logs(folder)
    for job in jobs_of(folder):
        assert_resumed(uninterrupted / job.name, job)


def test_a_job_out_of_time_that_may_not_start_again_is_in_the_table(
    cluster, uninterrupted, tmp_path
):
    folder = tmp_path / "sweep"
    cluster.set_pause(0.5)
    result = cluster.train(
        "-m", *ON_SLURM, "hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=30",
        f"hydra.sweep.dir={folder}",
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr + logs(folder)
    assert result.stdout.count("interrupted") == 2
    assert "2 of 2 jobs were cut: lr=0.1, lr=0.01; continue the sweep with" in result.stderr
    for job in jobs_of(folder):
        assert_saved_last_batch(job)
    cluster.set_pause(0)
    again = cluster.train(f"resume={folder}")
    assert again.returncode == 0, again.stderr
    for job in jobs_of(folder):
        assert_resumed(uninterrupted / job.name, job)


def test_a_canceled_trial_of_a_search_is_resumed(cluster, tmp_path):
    folder = tmp_path / "sweep"
    cluster.set_pause(0.1)
    command = cluster.start_train(
        "-m", *RUN, "hydra/launcher=submitit_slurm", "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2", "model.optimizer.lr=interval(0.01,1)",
        f"hydra.sweep.dir={folder}",
    )  # fmt: skip
    until(lambda: len(list(folder.glob("*/checkpoints/last.ckpt"))) == 2)
    cluster.run("scancel", job_id(folder, 0))
    cluster.set_pause(0)
    result = command.finish()
    assert result.returncode == 1, result.stderr
    assert "1 of 2 jobs were cut" in result.stderr
    assert result.stdout.count("finished") == 1
    again = cluster.train(f"resume={folder}")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished") == 2
    sessions = [len(run_record.read(path.parent)["sessions"]) for path in folder.glob("*/run.json")]
    assert sorted(sessions) == [1, 2]
