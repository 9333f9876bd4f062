"""A tiny run, and checks of runs that were interrupted and resumed."""

import csv

from src.core import run_record, runs
from src.engine.resume import batches_done
from tests.conftest import TINY
from tests.engine.interruptions import assert_same_run
from tests.faults.kills import differences
from tests.slurm.cluster import until

EPOCHS = 60
RUN = (*TINY, "model=fc", "trainer.log_every_n_steps=1", "checkpoint.every_n_batches=null",
       f"trainer.max_epochs={EPOCHS}")  # fmt: skip


def wait_for_training(folder):
    until(lambda: (folder / "checkpoints" / "last.ckpt").exists() and rows(folder) > 8)


def rows(folder):
    """Return how many batches metrics.csv has."""
    path = folder / "metrics.csv"
    if not path.exists():
        return 0
    with path.open(newline="") as file:
        return sum(1 for row in csv.DictReader(file) if row.get("train/loss"))


def assert_saved_last_batch(folder):
    """Assert that the run is interrupted, and that no batch that it has trained is lost."""
    assert run_record.state_of(folder, run_record.read(folder)) == run_record.INTERRUPTED
    saved, trained = batches_done(runs.load_last(folder)), rows(folder)
    assert 0 < saved == trained < 4 * EPOCHS
    print(f"trained {trained} of {4 * EPOCHS} batches, lost {trained - saved}")


def assert_resumed(uninterrupted, folder, sessions=2):
    """Assert that the run has that many sessions and equals the uninterrupted one."""
    assert len(run_record.read(folder)["sessions"]) == sessions
    assert (folder / "train.log").read_text().count("resuming") == sessions - 1
    assert_same_run(uninterrupted, folder)
    assert differences(uninterrupted, folder) == []
