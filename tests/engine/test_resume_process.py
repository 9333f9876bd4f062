"""A training process that gets a signal can be resumed on the command line, with changes."""

import shutil
import signal

import pytest

from src.core import runs
from src.engine.resume import batches_done
from tests.conftest import command, wrong
from tests.engine.interruptions import GAN_RUN, assert_same_run, start, uninterrupted_run, wait_for

LONGER = (
    *GAN_RUN,
    "trainer.max_epochs=60",
    "checkpoint.every_n_batches=7",
    "trainer.log_every_n_steps=20",
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    result = command("train", *LONGER, f"hydra.run.dir={folder}")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGKILL", -9)])
def test_resume_after_a_signal_is_bit_exact(uninterrupted, tmp_path, name, code):
    """A training process that is killed and resumed ends as an uninterrupted one."""
    folder = tmp_path / "cut"
    process = start(*LONGER, f"hydra.run.dir={folder}")
    wait_for(folder / "checkpoints" / "last.ckpt", process)
    process.send_signal(getattr(signal, name))
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in stderr
    if name != "SIGKILL":
        assert stderr.count(f"resume={folder}") == 1
        assert f"resume={folder}" in (folder / "train.log").read_text()
    done = batches_done(runs.load_last(folder))
    assert 0 < done < 240, "the signal came too late to interrupt anything"

    resumed = command("train", f"resume={folder}")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(uninterrupted, folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return uninterrupted_run(tmp_path_factory.mktemp("finished"), GAN_RUN)


@pytest.mark.slow
def test_resume_refuses_changes_of_the_result(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    assert "model.latent_dim=8" in wrong(command("train", f"resume={folder}", "model.latent_dim=8"))
    assert "trainer.max_epochs=[1: must be a whole number of at least 1" in wrong(
        command("train", f"resume={folder}", "trainer.max_epochs=[1")
    )
    assert "maximum" in wrong(command("train", f"resume={folder}", "trainer.maximum=8"))
    assert "trainer.precision=16-mixed' cannot change" in wrong(
        command("train", f"resume={folder}", "trainer.precision=16-mixed")
    )
    shorter = command("train", f"resume={folder}", "trainer.max_epochs=1")
    assert shorter.returncode == 2
    assert (
        "trainer.max_epochs=1 is less than the 3 epochs that the run has finished" in shorter.stderr
    )
    assert "Traceback" not in shorter.stderr
    config = ".hydra/config.yaml"
    assert (folder / config).read_bytes() == (finished / config).read_bytes()


@pytest.mark.slow
def test_changes_of_a_resumed_run_are_saved_in_its_config(finished, tmp_path):
    """Otherwise a run that is made longer and interrupted again would end at its first length."""
    folder = shutil.copytree(finished, tmp_path / "run")
    longer = command("train", f"resume={folder}", "trainer.max_epochs=4")
    assert longer.returncode == 0, longer.stderr
    assert batches_done(runs.load_last(folder)) == 16
    cfg = runs.load_config(folder)
    assert (cfg.trainer.max_epochs, cfg.resume) == (4, None)
    before = runs.read_metrics(folder)
    again = command("train", f"resume={folder}")
    assert again.returncode == 0, again.stderr
    assert batches_done(runs.load_last(folder)) == 16
    assert (
        "training had already finished (4 epochs). To train longer: trainer.max_epochs=N with N > 4"
        in again.stderr
    )
    after = runs.read_metrics(folder)
    assert all(after[name] == before[name] for name in ("seconds", "images_per_second"))
