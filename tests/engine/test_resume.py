"""A run that is interrupted at any batch and resumed equals the uninterrupted run, bit for bit."""

import os
import signal

import numpy as np
import pytest
from PIL import Image
from pytorch_lightning.callbacks import Timer

from src.core import runs
from src.core.errors import Interrupted
from src.engine.resume import batches_done
from src.models.classifier import Classifier
from src.models.draw import DRAW
from src.models.gan import GAN
from src.train import train
from tests.conftest import command, saved
from tests.engine.interruptions import (
    GAN_RUN,
    THREE_EPOCHS,
    assert_same,
    assert_same_run,
    interrupted_and_resumed,
    state,
    uninterrupted_run,
)

DRAW_RUN = (
    *THREE_EPOCHS,
    "model=draw",
    "model.net.num_steps=3",
    "model.net.encoder_dim=8",
    "model.net.decoder_dim=8",
    "data.binarize=true",
    "model/schedule=cosine",
    "callbacks=default",
    "callbacks.canvases.n=2",
    "callbacks.canvases.every_n_batches=3",
    "~callbacks.quality",
)
CLASSIFIER_RUN = (
    *THREE_EPOCHS,
    "model=vgg",
    "model.net.features=[4,M,8,M,D]",
    "model.net.dropout=[0.3,0]",
    "model/optimizer=muon",
    "model.ema=0.9",
    "augment=crop_flip",
    "callbacks=[default,early_stopping]",
    "callbacks.early_stopping.patience=9",
    "~callbacks.quality",
    "model/schedule=plateau",
    "model.schedule.patience=0",
    "model.schedule.min_delta=1e9",
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return uninterrupted_run(tmp_path_factory.mktemp("uninterrupted"), GAN_RUN)


@pytest.fixture(scope="module")
def uninterrupted_draw(tmp_path_factory):
    return uninterrupted_run(tmp_path_factory.mktemp("uninterrupted"), DRAW_RUN)


@pytest.fixture(scope="module")
def uninterrupted_classifier(tmp_path_factory):
    return uninterrupted_run(tmp_path_factory.mktemp("uninterrupted"), CLASSIFIER_RUN)


def slow(*values):
    """Return values of a parameter that `make test` leaves out."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.mark.parametrize("cut", range(1, 13))
def test_cut_at_any_batch(uninterrupted, config, tmp_path, monkeypatch, cut):
    """The signal comes during batch `cut` of 12. Lightning alone loses a batch at the end of an
    epoch (4, 8)."""
    assert_same_run(
        uninterrupted, interrupted_and_resumed(GAN, config(*GAN_RUN), tmp_path, monkeypatch, cut)
    )


@pytest.mark.parametrize("cut", [4, 7, *slow(2, 12)])
def test_draw_cut_at_a_batch(uninterrupted_draw, config, tmp_path, monkeypatch, cut):
    """The noise, the binarization of each epoch and the pictures of the windows are the same."""
    assert_same_run(
        uninterrupted_draw,
        interrupted_and_resumed(DRAW, config(*DRAW_RUN), tmp_path, monkeypatch, cut),
    )


@pytest.mark.parametrize("cut", [4, 7, *slow(2, 12)])
def test_classifier_cut_at_a_batch(uninterrupted_classifier, config, tmp_path, monkeypatch, cut):
    """Dropout, augmentation, the buffers of BatchNorm and Muon, the moving average, the state of
    the plateau schedule and of early stopping are the same."""
    folder = interrupted_and_resumed(
        Classifier, config(*CLASSIFIER_RUN), tmp_path, monkeypatch, cut
    )
    assert_same_run(uninterrupted_classifier, folder)
    assert state(folder)["callbacks"]["Reproducibility"]["factor"] == pytest.approx(0.01)


@pytest.mark.parametrize("cut", [4, *slow(2, 8)])
def test_order_of_files_read_by_workers_is_kept(config, tmp_path, monkeypatch, cut):
    """Workers are asked for batches before training starts, also at the end of an epoch (4, 8)."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        path = tmp_path / "photos" / ("cats", "dogs")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    files = ("data=folder", f"data.root={tmp_path / 'photos'}", "data.size=8", "data.test_size=0")
    reading = ("data.in_memory=false", "data.workers=2", "data.batch_size=8", "data.limit=null")
    overrides = (*THREE_EPOCHS, *files, *reading, "data.val_size=8", "model=fc", "augment=flip")
    plain = uninterrupted_run(tmp_path / "uninterrupted", overrides)
    assert_same_run(
        plain, interrupted_and_resumed(Classifier, config(*overrides), tmp_path, monkeypatch, cut)
    )


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 6])
def test_an_accumulated_gradient_is_kept(config, tmp_path, monkeypatch, cut):
    """A step takes three batches, an epoch has four; the run is interrupted within a step."""
    overrides = (*THREE_EPOCHS, "model=fc", "trainer.accumulate_grad_batches=3")
    plain = uninterrupted_run(tmp_path / "uninterrupted", overrides)
    assert_same_run(
        plain, interrupted_and_resumed(Classifier, config(*overrides), tmp_path, monkeypatch, cut)
    )


@pytest.mark.slow
def test_a_time_limit_inside_an_epoch_loses_no_batch(config, tmp_path, monkeypatch):
    overrides = (*THREE_EPOCHS, "model=fc")
    plain = uninterrupted_run(tmp_path / "uninterrupted", overrides)
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
        f"max_time reached after {done} batches; resume with: python -m src.train resume={folder}"
        in (folder / "train.log").read_text()
    )
    monkeypatch.undo()
    result = command("train", f"resume={folder}", "trainer.max_time=null")
    assert result.returncode == 0, result.stderr
    one, other = state(plain), state(folder)
    for part in ("state_dict", "optimizer_states", "epoch", "global_step"):
        assert_same(one[part], other[part], part)


@pytest.mark.parametrize("batches", [2, 4])
def test_a_time_limit_is_logged_inside_an_epoch_and_at_its_end(
    config, tmp_path, monkeypatch, batches
):
    step, seen = Classifier.training_step, []
    monkeypatch.setattr(
        Classifier, "training_step", lambda self, *args: seen.append(0) or step(self, *args)
    )
    monkeypatch.setattr(
        Timer, "time_elapsed", lambda self, stage="train": 100.0 * (len(seen) >= batches)
    )
    cfg = config(*THREE_EPOCHS, "model=fc", "trainer.max_time=00:00:01:00")
    folder = saved(cfg, tmp_path / "run")
    train(cfg, folder)
    assert (folder / "train.log").read_text().count(f"max_time reached after {batches} b") == 1


def test_cut_twice_in_one_epoch(uninterrupted, config, tmp_path, monkeypatch):
    step, seen, cfg = GAN.training_step, [], config(*GAN_RUN)
    folder = saved(cfg, tmp_path / "cut")

    def signaled(self, batch, batch_idx):
        seen.append(batch_idx)
        if len(seen) in (5, 7):
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(GAN, "training_step", signaled)
    for _ in range(2):
        with pytest.raises(Interrupted):
            train(cfg, folder)
        cfg.resume = str(folder)
    train(cfg, folder)
    assert seen == [0, 1, 2, 3] * 3
    assert_same_run(uninterrupted, folder)
