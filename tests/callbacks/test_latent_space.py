"""Pictures of latent space, for a model whose code is the mean of each half of an image."""

from types import SimpleNamespace

import torch

from src.callbacks.latent_walks import LatentWalks
from src.engine import build
from tests.conftest import TINY


def test_no_walk_is_drawn_with_a_single_validation_image(config):
    cfg = config("model=vae", "data=digits", *TINY)
    data = build.datamodule(cfg)
    walks, model = LatentWalks(1, n=8, seed=0), build.model(cfg, data)
    data.val = data.val.subset(torch.arange(5))
    assert walks.draw(SimpleNamespace(datamodule=data), model).shape[0] == 2 * (2 * 28 + 2) + 2
    data.val = data.val.subset(torch.arange(1))
    assert walks.draw(SimpleNamespace(datamodule=data), model) is None
