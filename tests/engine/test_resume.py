"""A run cut anywhere and resumed is bit for bit the run that was never cut."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from pytorch_lightning.callbacks import Timer

from src.callbacks.protocols import CanSample
from src.config.checks import check, compose
from src.core import runs
from src.core.errors import Interrupted
from src.core.randomness import generator
from src.engine.load import load_run
from src.engine.resume import batches_done
from src.models.classifier import Classifier
from src.models.draw import DRAW
from src.models.gan import GAN
from src.train import train
from tests.conftest import ROOT, TINY, TINY_NETS, command, saved, wrong

# 100 images, batch 32: four batches an epoch, the last of 4; n_critic 3 does not divide 4, so turns
# straddle epochs
RUN = (*TINY, *TINY_NETS, "model.ema=0.9", "model.n_critic=3", "model/schedule=cosine",
       "data.val_size=20",
       "trainer.max_epochs=3", "trainer.log_every_n_steps=1", "test=false",
       "checkpoint.every_n_batches=null")  # fmt: skip
DRAW_RUN = (*RUN[: len(TINY)], *RUN[-5:], "model=draw", "model.net.num_steps=3",
            "model.net.encoder_dim=8", "model.net.decoder_dim=8", "data.val_size=20",
            "data.binarize=true", "model/schedule=cosine", "callbacks=default",
            "callbacks.canvases.n=2",
            "callbacks.canvases.every_n_batches=3", "~callbacks.quality")  # fmt: skip
CLASSIFIER_RUN = (*RUN[: len(TINY)], *RUN[-5:], "model=vgg", "model.net.features=[4,M,8,M,D]",
                  "model.net.dropout=[0.3,0]",
                  "model/optimizer=muon", "data.val_size=20", "model.ema=0.9", "augment=crop_flip",
                  "callbacks=[default,early_stopping]",
                  "callbacks.early_stopping.patience=9", "~callbacks.quality",
                  "model/schedule=plateau",
                  "model.schedule.patience=0", "model.schedule.min_delta=1e9")  # fmt: skip
TIMES = {"train/images_per_second"}


def state(folder):
    return runs.load_checkpoint(folder / "checkpoints" / "last.ckpt")


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def assert_same(a, b, where=""):
    """Equal to the last bit, containers and all."""
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
    one, other = state(a), state(b)
    for part in ("state_dict", "optimizer_states", "epoch", "global_step"):
        assert_same(one[part], other[part], part)
    assert rows(a) == rows(b)
    assert_same(one["callbacks"], other["callbacks"], "callbacks")
    models = [load_run(folder)[1] for folder in (a, b)]
    if isinstance(models[0], CanSample):
        assert torch.equal(*(model.sample(4, generator(0)) for model in models))
    assert sorted(p.name for p in a.glob("images/*")) == sorted(p.name for p in b.glob("images/*"))


@pytest.fixture(scope="module")
def uncut(tmp_path_factory):
    return uncut_run(tmp_path_factory.mktemp("uncut"), RUN)


@pytest.fixture(scope="module")
def uncut_draw(tmp_path_factory):
    return uncut_run(tmp_path_factory.mktemp("uncut"), DRAW_RUN)


@pytest.fixture(scope="module")
def uncut_classifier(tmp_path_factory):
    return uncut_run(tmp_path_factory.mktemp("uncut"), CLASSIFIER_RUN)


def uncut_run(folder, overrides):
    cfg = compose("train", list(overrides))
    check(cfg)
    train(cfg, saved(cfg, folder))
    return folder


@pytest.mark.parametrize("cut", range(1, 13))
def test_cut_at_any_batch(uncut, config, tmp_path, monkeypatch, cut):
    """A signal during batch `cut` of 12 (4, 8: the ends of epochs, where Lightning alone loses
    one), then resume."""
    assert_same_run(uncut, cut_and_resumed(GAN, config(*RUN), tmp_path, monkeypatch, cut))


@pytest.mark.parametrize("cut", [2, 4, 7, 12])
def test_draw_cut_at_a_batch(uncut_draw, config, tmp_path, monkeypatch, cut):
    """Its noise, the binarization drawn anew each epoch and the windows' pictures among what must
    come again."""
    assert_same_run(
        uncut_draw, cut_and_resumed(DRAW, config(*DRAW_RUN), tmp_path, monkeypatch, cut)
    )


@pytest.mark.parametrize("cut", [2, 4, 7, 12])
def test_classifier_cut_at_a_batch(uncut_classifier, config, tmp_path, monkeypatch, cut):
    """Dropout, augmentation, BatchNorm's buffers, Muon's, the average, the plateau's and early
    stopping's memory."""
    folder = cut_and_resumed(Classifier, config(*CLASSIFIER_RUN), tmp_path, monkeypatch, cut)
    assert_same_run(uncut_classifier, folder)
    assert state(folder)["callbacks"]["Reproducibility"]["factor"] == pytest.approx(0.01)


def cut_and_resumed(family, cfg, tmp_path, monkeypatch, cut, method="training_step"):
    """A run's folder, the run cut during batch `cut` of 12 and resumed; `method` of the model is
    called once a batch."""
    step = getattr(family, method)
    seen = []

    def signalled(self, *args, **kwargs):
        seen.append(args)
        if len(seen) == cut:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(family, method, signalled)
    folder = saved(cfg, tmp_path / "cut")
    with pytest.raises(Interrupted) as stop:
        train(cfg, folder)
    assert stop.value.signum == signal.SIGTERM
    assert len(seen) == batches_done(runs.load_last(folder)) == cut

    torch.manual_seed(cut)  # whatever the resuming process drew before
    cfg.resume = str(folder)
    train(cfg, folder)
    assert len(seen) == 12
    return folder


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 6])
def test_a_gathered_gradient_is_kept(config, tmp_path, monkeypatch, cut):
    """Of three batches together, in epochs of four, cut between them."""
    overrides = (
        "model=fc",
        *RUN[: len(TINY)],
        *RUN[-5:],
        "trainer.accumulate_grad_batches=3",
        "data.val_size=20",
    )
    plain = uncut_run(tmp_path / "uncut", overrides)
    assert_same_run(
        plain, cut_and_resumed(Classifier, config(*overrides), tmp_path, monkeypatch, cut)
    )


def test_time_that_is_up_inside_an_epoch_loses_none_of_it(config, tmp_path, monkeypatch):
    overrides = ("model=fc", *RUN[: len(TINY)], *RUN[-5:])
    plain = uncut_run(tmp_path / "uncut", overrides)
    times = iter([0.0] * 6 + [100.0] * 60)
    monkeypatch.setattr(
        Timer, "time_elapsed", lambda self, stage="train": next(times) if stage == "train" else 0.0
    )
    cfg = config(*overrides, "trainer.max_time=00:00:01:00")
    folder = saved(cfg, tmp_path / "cut")
    train(cfg, folder)
    done = batches_done(runs.load_last(folder))
    assert done in (5, 6), "inside the second epoch of four"
    assert (
        f"time is up after {done} batches; resume with: python -m src.train resume={folder}"
        in (folder / "train.log").read_text()
    )
    monkeypatch.undo()
    result = command("train", f"resume={folder}", "trainer.max_time=null")
    assert result.returncode == 0, result.stderr
    one, other = state(plain), state(folder)
    for part in ("state_dict", "optimizer_states", "epoch", "global_step"):
        assert_same(one[part], other[part], part)


def test_cut_twice_in_one_epoch(uncut, config, tmp_path, monkeypatch):
    step, seen, cfg = GAN.training_step, [], config(*RUN)
    folder = saved(cfg, tmp_path / "cut")

    def signalled(self, batch, batch_idx):
        seen.append(batch_idx)
        if len(seen) in (5, 7):
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(GAN, "training_step", signalled)
    for _ in range(2):
        with pytest.raises(Interrupted):
            train(cfg, folder)
        cfg.resume = str(folder)
    train(cfg, folder)
    assert seen == [0, 1, 2, 3] * 3
    assert_same_run(uncut, folder)


LONGER = (
    *RUN,
    "trainer.max_epochs=60",
    "checkpoint.every_n_batches=7",
    "trainer.log_every_n_steps=20",
)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    result = command("train", *LONGER, f"hydra.run.dir={folder}")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.parametrize(
    ("name", "code"),
    [
        pytest.param("SIGINT", 130, marks=pytest.mark.slow),
        pytest.param("SIGTERM", 143, marks=pytest.mark.slow),
        ("SIGKILL", -9),
    ],
)
def test_real_process_real_signal(unbroken, tmp_path, name, code):
    """A training process is killed, resumed as a user would, and ends where an unbroken one
    does."""
    folder = tmp_path / "cut"
    process = subprocess.Popen(
        [sys.executable, "-m", "src.train", *LONGER, f"hydra.run.dir={folder}"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in stderr
    if name != "SIGKILL":
        assert stderr.count(f"resume={folder}") == 1
        assert f"resume={folder}" in (folder / "train.log").read_text()
    done = batches_done(runs.load_last(folder))
    assert 0 < done < 240, "the signal came too late to cut anything"

    resumed = command("train", f"resume={folder}")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(unbroken, folder)


def test_resume_refuses_what_would_change_the_run(uncut, tmp_path):
    folder = shutil.copytree(uncut, tmp_path / "run")
    assert "model.latent_dim=8" in wrong(command("train", f"resume={folder}", "model.latent_dim=8"))
    assert "trainer.max_epochs=[1: it takes a whole number from 1" in wrong(
        command("train", f"resume={folder}", "trainer.max_epochs=[1")
    )
    assert "maximum" in wrong(command("train", f"resume={folder}", "trainer.maximum=8"))
    assert "trainer.precision=16-mixed' cannot change" in wrong(
        command("train", f"resume={folder}", "trainer.precision=16-mixed")
    )
    shorter = command("train", f"resume={folder}", "trainer.max_epochs=1")
    assert shorter.returncode == 2
    assert "trainer.max_epochs=1: the run has 3 behind it" in shorter.stderr
    assert "Traceback" not in shorter.stderr


@pytest.mark.slow
def test_what_a_resumed_run_is_told_is_remembered(uncut, tmp_path):
    """Else a run that is made longer and cut again would stop where it was to stop first."""
    folder = shutil.copytree(uncut, tmp_path / "run")
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
        "run already finished (4 epochs): trainer.max_epochs=N with N > 4 goes on" in again.stderr
    )
    after = runs.read_metrics(folder)
    assert all(after[name] == before[name] for name in ("seconds", "images_per_second"))
