"""Two checkpoints, a lock on the folder, and metrics of earlier sessions."""

import errno
import json
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from src.callbacks import checkpoint
from src.callbacks.best import BestCheckpoints
from src.config.cli import RunFolder
from src.config.jobs import failure
from src.core import new_runs, runs
from src.core.errors import Interrupted, UserError
from src.core.files import write_atomically
from src.core.progress import progress
from src.engine.resume import batches_done
from src.train import run, train
from tests.conftest import ROOT, TINY, TINY_NETS, command, saved, wrong
from tests.engine.interruptions import assert_same_run, uninterrupted_run

SHORT = ("model=fc", *TINY, "data.val_size=20", "trainer.max_epochs=2", "test=false",
         "checkpoint.every_n_batches=1")  # fmt: skip
TIMES = ("seconds", "images_per_second", "peak_memory_mb")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return uninterrupted_run(tmp_path_factory.mktemp("finished"), SHORT)


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_previous_checkpoint_is_kept(finished):
    last, previous = (finished / "checkpoints" / name for name in (runs.LAST, runs.PREVIOUS))
    done = [batches_done(runs.load_checkpoint(path)) for path in (previous, last)]
    assert done == [7, 8]


@pytest.mark.parametrize(
    ("slow", "share", "interval", "expected"),
    [
        (0.0, 1e-9, "null", [4, 12, 20]),  # all are slow: the first, the best and the last
        (0.0, 1e9, "null", [4, 8, 12, 16, 20]),  # slow, but less than they may take
        (100.0, 1e-9, "null", [4, 8, 12, 16, 20]),  # fast
        (0.0, 1e-9, "8", [4, 8, 12, 16, 20]),  # slow, but 8 and 16 are multiples of the interval
    ],
)
def test_slow_checkpoints_are_not_written_after_every_epoch(
    tmp_path, monkeypatch, slow, share, interval, expected
):
    monkeypatch.setattr(checkpoint, "SLOW", slow)
    monkeypatch.setattr(checkpoint, "SHARE", share)
    observe, batches = BestCheckpoints.observe, []

    def third_is_best(self, value, n):
        observe(self, {4: 0.5, 8: 0.6, 12: 0.1}.get(n, 0.7), n)

    monkeypatch.setattr(BestCheckpoints, "observe", third_is_best)
    monkeypatch.setattr(
        "pytorch_lightning.Trainer.save_checkpoint",
        lambda trainer, path: (
            batches.append(progress(trainer).batch),
            trainer.strategy.save_checkpoint({}, path),
        ),
    )
    overrides = (*SHORT, "trainer.max_epochs=5", f"checkpoint.every_n_batches={interval}")
    uninterrupted_run(tmp_path, (*overrides, "checkpoint.monitor=val/loss"))
    assert batches == expected


def test_a_signal_after_the_last_checkpoint_still_stops_the_run(tmp_path, log_lines, monkeypatch):
    callback = checkpoint.Checkpoint(tmp_path, None)
    trainer = SimpleNamespace(world_size=1)
    monkeypatch.setattr(checkpoint, "progress", lambda trainer: SimpleNamespace(batch=8))
    callback.on_train_end(trainer, None)
    callback._on_signal(signal.SIGTERM, None)
    with pytest.raises(Interrupted):
        callback.on_train_end(trainer, None)
    assert log_lines == [
        f"SIGTERM: stopped after 8 batches; resume with: python -m src.train resume={tmp_path}"
    ]


def test_checkpoint_that_cannot_be_read_now_is_not_called_damaged(finished, tmp_path, monkeypatch):
    folder = shutil.copytree(finished, tmp_path / "run")

    def fail(*args, **kwargs):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("zipfile.ZipFile", fail)
    with pytest.raises(OSError, match="Too many open files"):
        runs.load_last(folder, repair=True)
    assert (folder / "checkpoints" / runs.LAST).is_file()
    said = str(failure(OSError(errno.EMFILE, "Too many open files"), folder))
    assert "the checkpoint cannot be read now" in said
    assert f"resume with: python -m src.train resume={folder}" in said


@pytest.mark.slow
def test_damaged_last_checkpoint_falls_back_to_the_previous_one(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    damage(folder / "checkpoints" / runs.LAST)
    result = command("train", f"resume={folder}")
    assert result.returncode == 0, result.stderr
    assert "warning: " in result.stderr
    assert "last.ckpt is a damaged checkpoint" in result.stderr
    assert "resuming" in result.stderr
    assert "after 7 batches" in result.stderr
    assert_same_run(finished, folder)
    good = [
        runs.load_checkpoint(folder / "checkpoints" / name) for name in (runs.LAST, runs.PREVIOUS)
    ]
    assert [batches_done(checkpoint) for checkpoint in good] == [8, 7]
    assert (folder / "checkpoints" / runs.DAMAGED).is_file()


def test_run_with_two_damaged_checkpoints_is_refused_in_one_line(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    for name in (runs.LAST, runs.PREVIOUS):
        damage(folder / "checkpoints" / name)
    with pytest.raises(UserError, match="damaged checkpoint"):
        runs.load_last(folder)


def test_kill_between_two_renames_loses_nothing(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "checkpoints" / runs.LAST).unlink()
    assert batches_done(runs.load_last(folder)) == 7


def test_failed_save_keeps_both_checkpoints(tmp_path):
    last, previous = tmp_path / "last", tmp_path / "previous"
    for text in ("1", "2"):
        write_atomically(last, lambda path, text=text: path.write_text(text), previous)

    def fail(path):
        path.write_text("3")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(last, fail, previous)
    assert (last.read_text(), previous.read_text()) == ("2", "1")
    assert len(list(tmp_path.iterdir())) == 2


def test_folder_in_use_is_refused_until_its_process_ends(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    stale = folder / "checkpoints" / f".{runs.LAST}.12345.tmp"
    stale.write_bytes(b"half")
    hold = (
        "import pathlib, sys, time; from src.core import runs\n"
        "with runs.locked(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        assert not stale.exists()
        line = wrong(command("train", f"resume={folder}"))
        assert f"is in use by process {holder.pid}" in line
    finally:
        holder.kill()
        holder.wait()
    with runs.locked(folder):
        pass


def test_a_second_start_in_one_folder_is_refused_and_touches_nothing(tmp_path):
    folder = tmp_path / "run"
    hold = (
        "import pathlib, sys; from src.core import new_runs\n"
        "with new_runs.reserved(pathlib.Path(sys.argv[1]), exact=True) as folder:\n"
        "    (folder / '.hydra').mkdir(); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(folder)], cwd=ROOT, stdout=subprocess.PIPE,
        stdin=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"is in use by process {holder.pid}"):
            run(["model=fc"], folder)
        run_folder = RunFolder()
        with (
            pytest.raises(UserError, match="is in use by process"),
            run_folder.reserved(folder, "hydra.run.dir"),
        ):
            pass
        run_folder.clean_up("SIGTERM")
        new_runs.discard(folder, parents=False)
        assert sorted(path.name for path in folder.iterdir()) == [".hydra", ".lock"]
        assert not (tmp_path / "run-2").exists()
        holder.communicate("\n")


@pytest.mark.parametrize("name", ["metrics.csv", "train.log", ".hydra/config.yaml"])
def test_folder_without_training_can_be_reused(tmp_path, name):
    folder = tmp_path / "run"
    for path in (folder / ".hydra" / "config.yaml", folder / name):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    with new_runs.reserved(folder, exact=True) as reserved:
        assert reserved == folder
        assert [path.name for path in folder.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    "name", ["checkpoints/last.ckpt", "checkpoints/previous.ckpt", "metrics.json"]
)
def test_folder_with_training_is_not_reused(tmp_path, name):
    for path in (tmp_path / ".hydra" / "config.yaml", tmp_path / name):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    with (
        pytest.raises(UserError, match="exists and is not empty"),
        new_runs.reserved(tmp_path, exact=True),
    ):
        pass
    assert (tmp_path / name).exists()


@pytest.mark.parametrize("validate_every", [1, 2])
def test_run_cut_after_its_last_checkpoint_reports_all_metrics(
    config, tmp_path, monkeypatch, validate_every
):
    """With a validation every second epoch of three, the last one was two checkpoints ago."""
    overrides = (*TINY, *TINY_NETS, "data.val_size=20", "trainer.max_epochs=3",
                 f"trainer.check_val_every_n_epoch={validate_every}")  # fmt: skip
    cfg = config(*overrides)
    uninterrupted, cut = (saved(cfg, tmp_path / name) for name in ("uninterrupted", "cut"))
    train(cfg, uninterrupted)

    def interrupt(*args, **kwargs):
        raise Interrupted(15)

    with monkeypatch.context() as patch:
        patch.setattr("pytorch_lightning.Trainer.test", interrupt)
        with pytest.raises(Interrupted):
            train(cfg, cut)
    assert not (cut / "metrics.json").exists()
    torch.manual_seed(1)
    cfg.resume = str(cut)
    train(cfg, cut)
    one, other = (
        json.loads((folder / "metrics.json").read_text()) for folder in (uninterrupted, cut)
    )
    assert "val/d_loss" in one
    assert one.keys() == other.keys()
    assert {k: v for k, v in one.items() if not k.endswith(TIMES)} == {
        k: v for k, v in other.items() if not k.endswith(TIMES)
    }
