"""The contract of `src.data.base.DataModule`, for every choice of data=."""

import math

import pytest
import pytorch_lightning as pl
import torch

from src.config.signatures import class_attribute, signature
from src.core.errors import UserError
from src.data.base import DataModule
from src.data.image_data import ImageData
from src.engine import build
from src.train import train
from tests.conftest import saved
from tests.contract.files import overrides_of
from tests.contract.small import (
    DATA,
    IMAGES,
    MODELS,
    class_of,
    data_class_of,
    fast_models,
    overrides,
    small_run,
)

MODEL_FOR = {  # a model that learns from such data without labels
    "images": "model=vae",
    "two domains of images": "model=cyclegan",
    "a photograph and a style": "model=style_transfer_own",
    "sentences": "model=word_vectors",
}


@pytest.fixture(params=DATA)
def built(request, inputs, tmp_path, monkeypatch):
    """A choice of data= from small files: its config, and a function that builds it."""
    words = overrides_of(request.param, inputs, tmp_path, monkeypatch)
    holds = class_attribute(data_class_of(request.param), "holds")
    cfg = small_run(MODEL_FOR[holds], "trainer=cpu", *words, f"cache={tmp_path / 'cache'}")
    return cfg, lambda: build.datamodule(cfg)


def batches(data, stage="train"):
    """Return all batches of `stage`, train, val or test, as a model gets them in a run."""
    if data.trainer is None:
        data.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data.trainer.training = stage == "train"
    loader = getattr(data, f"{stage}_dataloader")()
    return [data.on_after_batch_transfer(tuple(batch), 0) for batch in loader]


@pytest.mark.parametrize("data", DATA)
def test_some_model_takes_every_data_set(data):
    target = data_class_of(data)
    known = signature(target)
    assert "DataModule" in known.bases
    assert class_attribute(target, "holds") in {
        class_attribute(class_of(model), "takes") for model in MODELS
    }


def test_every_data_set_has_the_attributes_of_the_contract(built):
    cfg, make = built
    data = make()
    assert isinstance(data, DataModule)
    assert data.name == cfg.data.name
    assert len(data.train) > 0
    assert set(data.state_dict()) >= set(data.state_keys)
    data.load_state_dict(data.state_dict())
    if isinstance(data, ImageData):
        assert data.pixel_kind
        assert len(data.class_names) == (data.num_classes or 0)


def test_batches_have_the_promised_shapes_ranges_types_and_labels(built):
    cfg, make = built
    data = make()
    for stage in ("train", "test", *(["val"] if len(data.val) else [])):
        parts = batches(data, stage)
        assert parts
        for first, second in parts:
            if data.holds == "sentences":
                assert first.dtype == second.dtype == torch.int64
                assert 0 <= first.min() <= first.max() <= len(data.words)
                assert set(second.tolist()) <= {-1, 0, 1}
                continue
            assert_images(first, cfg)
            if data.holds != "images":
                assert_images(second, cfg)
                continue
            assert second.shape == (len(first),)
            assert second.dtype == torch.int64
            lowest, classes = (0, data.num_classes) if data.num_classes else (-1, 0)
            assert lowest <= second.min() <= second.max() < classes


def assert_images(images, cfg):
    size = cfg.data.size
    height, width = (size, size) if isinstance(size, int) else size
    assert images.shape[1:] == (cfg.data.channels, height, width)
    assert images.dtype == torch.float32
    assert len(images) == 0 or 0 <= images.min() <= images.max() <= 1


def test_two_builds_yield_the_same_batches(built):
    _, make = built
    runs = [batches(make()) for _ in range(2)]
    for pair in zip(*runs, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(*pair, strict=True))


@pytest.mark.parametrize("more", ["data.binarize=true", "data.permute=true"])
def test_binarized_and_permuted_batches_are_reproducible_floats(tmp_path, more):
    cfg = small_run("model=fc", "trainer=cpu", *IMAGES, more, f"cache={tmp_path}")
    runs = []
    for _ in range(2):
        runs.append(batches(build.datamodule(cfg)))
        for images, _ in runs[-1]:
            assert_images(images, cfg)
    for pair in zip(*runs, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(*pair, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("model", sorted({*fast_models(), "gan"}))
def test_two_batches_of_every_family_on_every_data_set_that_it_takes(
    model, data, inputs, tmp_path, monkeypatch
):
    holds = class_attribute(data_class_of(data), "holds")
    if class_attribute(class_of(model), "takes") != holds:
        pytest.skip(f"{model} takes other data")
    words = overrides_of(data, inputs, tmp_path, monkeypatch)
    run = [word for word in overrides(model, inputs, words) if "callbacks" not in word]
    if holds != "a photograph and a style":  # whose batches are always one pair
        run.append("data.batch_size=2")
    try:
        cfg = small_run(*run, "callbacks=none", "trainer.max_epochs=1",
                        "trainer.limit_train_batches=2", f"cache={tmp_path / 'cache'}")  # fmt: skip
        metrics = train(cfg, saved(cfg, tmp_path / "run"))
    except UserError as error:
        if "needs labels" not in str(error):
            raise
        pytest.skip(str(error))
    assert metrics["batches"] == 2
    figures = [value for name, value in metrics.items() if name.startswith("test/")]
    assert figures
    assert all(math.isfinite(value) for value in figures)
