"""Shared by the tests of models: a small backbone for transfer learning."""

import numpy as np
import pytest
from PIL import Image

from src.config.checks import check
from src.config.compose import compose
from src.train import train
from tests.conftest import saved
from tests.models.transfer import SOURCE, TARGET


@pytest.fixture(scope="session")
def five_classes(tmp_path_factory):
    """A folder of five classes, 40 colored noises each."""
    root, noise = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for k, name in enumerate("abcde"):
        (root / name).mkdir()
        for i in range(40):
            pixels = noise.integers(0, 120 + 30 * k, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def backbone(five_classes, tmp_path_factory):
    """The folder of a run on three of them, with a moving average."""
    cfg = compose("train", [f"data.root={five_classes}", *SOURCE])
    check(cfg)
    folder = saved(cfg, tmp_path_factory.mktemp("backbone") / "run")
    train(cfg, folder)
    return folder


@pytest.fixture
def transfer_config(five_classes, backbone, config):
    """overrides -> a config that starts from that run, on the two other classes."""
    return lambda *more: config(
        *TARGET, f"data.root={five_classes}", f"model.init_from={backbone}", *more
    )
