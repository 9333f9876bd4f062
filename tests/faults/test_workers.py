"""Processes that read images: without shared memory, killed, and given their parent's signals."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.faults.disks import ROOT_ONLY
from tests.faults.kills import differences
from tests.faults.test_disks import failure, success

pytestmark = pytest.mark.faults
FILES = "classifier, files"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("size=1m", "/dev/shm is full: batches of data.workers come through a pipe"),
        ("nr_inodes=1", "data.workers=2 cannot be started"),
    ],
)
def test_a_small_dev_shm_neither_hangs_nor_changes_the_run(
    kills, mountable, tmp_path, options, words
):
    if not mountable:
        pytest.skip(ROOT_ONLY)
    runs = []
    small = [["-t", "tmpfs", "-o", options, "tmpfs", "/dev/shm"]]
    for name, mounts in (("large", []), ("small", small)):
        given = kills.arguments(
            FILES, "32-true", tmp_path / name, "data.size=256", "trainer.max_epochs=1"
        )
        runs.append(kills.server.start(given, tmp_path / "out", mounts=mounts))
        success(runs[-1])
    assert words in runs[1].said
    assert differences(tmp_path / "large", tmp_path / "small") == []


def children(pid):
    """The processes that `pid` has started and that still run."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def test_a_worker_that_is_killed_ends_the_run_with_one_line(kills, tmp_path):
    folder = tmp_path / "run"
    run = kills.start(FILES, kills.arguments(FILES, "32-true", folder, "trainer.max_epochs=500"))
    assert run.until(lambda: (folder / "checkpoints" / "previous.ckpt").exists()), run.said[-2000:]
    os.kill(children(run.pid)[0], signal.SIGKILL)
    line = failure(run)
    assert "a process that reads images died (" in line
    assert "is intact: give it more memory, or lower data.workers, then resume with" in line
    assert kills.start(FILES, [f"resume={folder}", "trainer.max_epochs=1"]).wait() == 2


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_process_group_saves_the_run(kills, tmp_path, signum):
    folder = tmp_path / "run"
    run = kills.start(FILES, kills.arguments(FILES, "32-true", folder, "trainer.max_epochs=500"))
    assert run.until(lambda: (folder / "checkpoints" / "previous.ckpt").exists()), run.said[-2000:]
    workers = children(run.pid)
    start = time.monotonic()
    run.kill(signum, group=True)
    assert run.wait() == 128 + signum, run.said[-2000:]
    assert time.monotonic() - start < 30
    assert "Traceback" not in run.said
    assert run.said.count(f"resume with: python -m src.train resume={folder}") == 1
    assert len(workers) == 4
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_figures_are_those_of_reading_without_workers(kills, tmp_path):
    for name, workers in (("two", 2), ("none", 0)):
        more = (f"data.workers={workers}", "trainer.max_epochs=1")
        given = kills.arguments(FILES, "32-true", tmp_path / name, *more)
        success(kills.start(FILES, given))
    assert differences(tmp_path / "two", tmp_path / "none") == []
