"""Interrupt a run in its own process, resume it, and compare it with an uninterrupted one."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from src.callbacks.protocols import CanSample
from src.config.checks import check
from src.config.compose import compose
from src.core import runs
from src.core.errors import Interrupted
from src.core.randomness import generator
from src.engine.load import load_run
from src.engine.resume import batches_done
from src.train import train
from tests.conftest import ROOT, THREADS, TINY, TINY_NETS, saved

# 100 images, batch 32: four batches per epoch, the last one of 4 images
THREE_EPOCHS = (
    *TINY,
    "data.val_size=20",
    "trainer.max_epochs=3",
    "trainer.log_every_n_steps=1",
    "test=false",
    "checkpoint.every_n_batches=null",
)
# n_critic 3 does not divide 4, so the generator's turns straddle epochs
GAN_RUN = (*THREE_EPOCHS, *TINY_NETS, "model.ema=0.9", "model.n_critic=3", "model/schedule=cosine")
TIMES = {"train/images_per_second"}


def state(folder):
    """Return the newest checkpoint of a run."""
    return runs.load_checkpoint(folder / "checkpoints" / "last.ckpt")


def rows(folder):
    """Return the rows of metrics.csv, without the columns that measure time."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def assert_same(a, b, where=""):
    """Assert that two values, or containers of values, are equal to the last bit."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def assert_same_run(a, b):
    """Assert that two run folders hold the same weights, states, metrics and names of pictures."""
    one, other = state(a), state(b)
    for part in ("state_dict", "optimizer_states", "epoch", "global_step"):
        assert_same(one[part], other[part], part)
    assert rows(a) == rows(b)
    assert_same(one["callbacks"], other["callbacks"], "callbacks")
    models = [load_run(folder)[1] for folder in (a, b)]
    if isinstance(models[0], CanSample):
        assert torch.equal(*(model.sample(4, generator(0)) for model in models))
    assert sorted(p.name for p in a.glob("images/*")) == sorted(p.name for p in b.glob("images/*"))


def uninterrupted_run(folder, overrides):
    """Train in `folder`, without interruption, and return it."""
    cfg = compose("train", list(overrides))
    check(cfg)
    train(cfg, saved(cfg, folder))
    return folder


def interrupted_and_resumed(family, cfg, tmp_path, monkeypatch, cut, method="training_step"):
    """Train, send SIGTERM during batch `cut` of 12, resume, and return the folder of the run.

    Args:
        method: method of the model class `family` that is called once per batch.
    """
    step = getattr(family, method)
    seen = []

    def signaled(self, *args, **kwargs):
        seen.append(args)
        if len(seen) == cut:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(family, method, signaled)
    folder = saved(cfg, tmp_path / "cut")
    with pytest.raises(Interrupted) as stop:
        train(cfg, folder)
    assert stop.value.signum == signal.SIGTERM
    assert len(seen) == batches_done(runs.load_last(folder)) == cut

    torch.manual_seed(cut)  # the resuming process may have drawn other numbers before
    cfg.resume = str(folder)
    train(cfg, folder)
    assert len(seen) == 12
    return folder


def start(*args: str) -> subprocess.Popen:
    """Start `python -m src.train` in its own process group."""
    return subprocess.Popen(
        [sys.executable, "-m", "src.train", *args],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(THREADS)},  # rounds as `command` does
        start_new_session=True,
    )


def wait_for(path: Path, process: subprocess.Popen) -> None:
    """Wait until a running process has written a file."""
    deadline = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
