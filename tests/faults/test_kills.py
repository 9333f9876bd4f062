"""A run of each family that is interrupted at random and resumed ends as the uninterrupted run."""

import random
import signal
import time

import pytest

from tests.faults.families import FAMILIES
from tests.faults.kills import SIGNALS, differences, has_checkpoint, stop
from tests.faults.processes import start_plain

pytestmark = pytest.mark.faults
CASES = [
    (name, run.precisions[k % len(run.precisions)], SIGNALS[(k + 1) % len(SIGNALS)])
    for k, (name, run) in enumerate(FAMILIES.items())
]


@pytest.mark.parametrize(("family", "precision", "signum"), CASES)
def test_an_interrupted_run_equals_the_uninterrupted_one(kills, family, precision, signum):
    result = next(
        cut for seed in range(9) if (cut := kills.cut(family, precision, seed, signum)).kills
    )
    assert result.equal, result
    assert result.resumes == 1
    assert result.lost <= (3 if signum == "SIGKILL" else 0), result


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 103))
@pytest.mark.parametrize(("family", "precision", "signum"), CASES)
def test_more_interrupted_runs_equal_the_uninterrupted_one(kills, family, precision, signum, seed):
    result = kills.cut(family, precision, seed)
    assert result.equal, result


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGTERM twice"])
def test_each_signal_saves_the_last_batch(kills, tmp_path, name):
    folder = tmp_path / "run"
    run = kills.start("gan", kills.arguments("gan", "32-true", folder, "trainer.max_epochs=500"))
    assert run.until(lambda: (folder / "checkpoints" / "last.ckpt").exists()), run.said[-2000:]
    assert stop(run, name)
    assert run.wait() == 128 + getattr(signal, name.split()[0]), run.said[-2000:]
    assert "Traceback" not in run.said
    assert run.said.count(f"resume with: python -m src.train resume={folder}") == 1


def test_a_cut_between_the_last_checkpoint_and_the_metrics(kills, tmp_path):
    """Its metrics.json is that of the uninterrupted run, with what was measured in validation."""
    folder = tmp_path / "run"
    run = kills.new("gan", "32-true", folder)
    assert run.until(lambda: "epoch 12/12 batch 4/4" in run.said)
    last = folder / "checkpoints" / "last.ckpt"
    assert run.until(lambda: (folder / "images" / "samples.gif").exists())
    before = last.stat().st_ino
    assert run.until(lambda: last.exists() and last.stat().st_ino != before)
    run.kill(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert not (folder / "metrics.json").exists()
    assert kills.start("gan", [f"resume={folder}"]).wait() == 0
    assert differences(kills.twin("gan", "32-true")[0], folder) == []


@pytest.mark.parametrize("seed", [0, 1])
def test_ctrl_c_while_a_run_starts_leaves_no_partial_files(kills, tmp_path, seed):
    """The real command, with its imports; the same command then works."""
    folder, outputs = tmp_path / "run", tmp_path / "outputs"
    run = start_plain(kills.arguments("sentiment", "32-true", folder), outputs)
    start = time.monotonic()
    assert run.until(lambda: folder.exists())
    reserve = time.monotonic() - start
    run.poll(random.Random(seed).uniform(0, reserve))
    run.kill(signal.SIGINT, group=True)
    assert run.wait() in (130, -2), run.said[-2000:]
    assert "Traceback" not in run.said
    if not has_checkpoint(folder):
        assert not folder.exists() or not (folder / "metrics.json").exists()
        assert kills.new("sentiment", "32-true", folder).wait() == 0
        assert differences(kills.twin("sentiment", "32-true")[0], folder) == []
