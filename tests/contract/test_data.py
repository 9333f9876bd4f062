"""The contract of `src.data.base.DataModule`, for every choice of data=."""

import pytest
import torch
from omegaconf import OmegaConf

from src.config.compose import CONF
from src.config.signatures import class_attribute, signature
from src.engine import build
from tests.contract.small import DATA, IMAGES, MODELS, class_of, small_run


@pytest.mark.parametrize("data", DATA)
def test_some_model_takes_every_data_set(data):
    target = _target(data)
    known = signature(target)
    assert known is not None
    assert "DataModule" in known.bases
    assert class_attribute(target, "holds") in {
        class_attribute(class_of(model), "takes") for model in MODELS
    }


@pytest.mark.parametrize("more", [(), ("data.binarize=true",), ("data.permute=true",)])
def test_digits_batches_are_reproducible_floats(tmp_path, more):
    cfg = small_run("model=fc", "trainer=cpu", *IMAGES, *more, f"cache={tmp_path}")
    seen = []
    for _ in range(2):
        data = build.datamodule(cfg)
        seen.append([])
        for batch in data.train_dataloader():
            images, labels = data.on_after_batch_transfer(tuple(batch), 0)
            assert images.shape == (len(images), cfg.data.channels, cfg.data.size, cfg.data.size)
            assert images.dtype == torch.float32
            assert 0 <= images.min() <= images.max() <= 1
            assert labels.shape == (len(images),)
            assert labels.dtype == torch.int64
            seen[-1].append((images, labels))
    for (a, x), (b, y) in zip(*seen, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(x, y)


def _target(data):
    """Return the class of a choice of data=, which its file or a file of its defaults names."""
    node = OmegaConf.load(CONF / "data" / f"{data}.yaml")
    settings = node.get("data", node)  # below `data` where the file sets other groups too
    if "_target_" in settings:
        return str(settings._target_)
    parents = [str(name) for name in node.defaults if isinstance(name, str)]
    return next(_target(name) for name in parents if not name.startswith("_"))
