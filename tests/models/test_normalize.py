"""How a classifier normalizes its images, and whitens its first layer."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import nn

from src.core.errors import UserError
from src.data.image_data import ImageData
from src.engine import build
from src.models.classifier import Classifier
from src.nets.init import whiten
from src.train import train
from tests.conftest import TINY, saved, weights_of


def test_whitening_uses_training_images_and_is_copied_to_the_average(config):
    cfg = config(
        "model=lenet", "data=digits", "model.normalize.whiten=true", "model.ema=0.9", *TINY
    )
    data = build.datamodule(cfg)
    model = build.model(cfg, data)
    data.test.images.fill_(255)
    expected = nn.Conv2d(1, 6, 5)
    images, _ = data.eval_images(data.train, torch.arange(len(data.train)))
    whiten(expected, (images - images.mean()) / images.std())
    model.trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    model.trainer.datamodule = data
    model.setup("fit")
    assert torch.allclose(model.net.conv1.weight, expected.weight, atol=1e-3)
    assert torch.equal(model.average.module.conv1.weight, model.net.conv1.weight)


def test_a_net_without_convolutions_is_not_whitened(config):
    with pytest.raises(UserError, match="whiten=true, but the network has no convolution"):
        build.model(config("model=fc", "data=digits", "model.normalize.whiten=true", *TINY))


def test_std_of_binarized_images_is_that_of_zeros_and_ones(config):
    cfg = config("model=lenet", "data=digits", "data.binarize=true", *TINY, "data.limit=null")
    data = build.datamodule(cfg)
    images, _ = data.eval_images(data.train, torch.arange(len(data.train)))
    drawn = data.randomize(images, torch.Generator().manual_seed(0)).numpy()
    assert set(np.unique(drawn)) == {0.0, 1.0}
    mean, std = data.moments()
    assert mean.item() == pytest.approx(drawn.mean(), abs=0.002)
    assert std.item() == pytest.approx(drawn.std(), abs=0.002)
    assert std.item() > images.std().item() + 0.05


def test_mean_and_std_are_those_of_the_training_images(config):
    """mean: null is the mean of the training images, not of the test images, and evaluation keeps
    it."""
    cfg = config("model=fc", "data=digits", "trainer.max_epochs=1", *TINY)
    data = build.datamodule(cfg)
    model = build.model(cfg, data)
    data.test.images.fill_(255)
    trainer = pl.Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        accelerator="cpu",
        enable_progress_bar=False,
    )
    model.train_dataloader = data.train_dataloader
    trainer.fit(model, datamodule=data)
    pixels = data.train.images.numpy() / 255.0
    assert model.mean.item() == pytest.approx(pixels.mean(), rel=1e-5)
    assert model.std.item() == pytest.approx(pixels.std(), rel=1e-5)


def test_resumed_run_takes_mean_and_std_from_its_checkpoint(config, tmp_path, monkeypatch):
    settings = ("model=lenet", "data=digits", "model.normalize.whiten=true", *TINY)
    cfg = config(*settings, "trainer.max_epochs=1", "test=false")
    train(cfg, saved(cfg, tmp_path / "run"))
    before = weights_of(tmp_path / "run")
    monkeypatch.setattr(ImageData, "moments", lambda self: pytest.fail("computed again"))
    monkeypatch.setattr(Classifier, "_whiten", lambda self: pytest.fail("whitened again"))
    cfg.resume, cfg.trainer.max_epochs = str(tmp_path / "run"), 2
    train(cfg, tmp_path / "run")
    after = weights_of(tmp_path / "run")
    assert before["mean"] == after["mean"] != 0
    assert before["std"] == after["std"] != 1


def test_constant_channel_has_std_one(config, tmp_path):
    """Images whose blue channel is 0."""
    noise = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for i in range(6):
            pixels = noise.integers(0, 256, (8, 8, 3), dtype=np.uint8) * np.array(
                [1, 1, 0], np.uint8
            )
            Image.fromarray(pixels).save(tmp_path / "in" / name / f"{i}.png")
    cfg = config("model=fc", "data=folder", f"data.root={tmp_path / 'in'}", "data.size=8",
                 "data.test_size=2", *TINY,
                 "trainer.max_epochs=1", "data.val_size=0")  # fmt: skip
    assert np.isfinite(train(cfg, saved(cfg, tmp_path / "run"))["test/loss"])
    assert weights_of(tmp_path / "run")["std"][2] == 1


def test_mean_and_std_may_be_whole_numbers(config):
    whole, other = (
        build.model(config("model=fc", "data=digits", f"model.normalize.std={std}", *TINY))
        for std in (2, 2.0)
    )
    assert whole.std.dtype == torch.float32
    assert torch.equal(whole.std, other.std)


@pytest.mark.parametrize(("channels", "mean"), [(1, "[0.1,0.2]"), (3, "[0.1,0.2]")])
def test_mean_with_wrong_number_of_channels_is_refused(config, channels, mean):
    with pytest.raises(UserError, match=f"mean has 2 values for images of {channels} channels"):
        build.model(
            config(
                "model=fc",
                "data=digits",
                f"data.channels={channels}",
                f"model.normalize.mean={mean}",
                *TINY,
            )
        )
