"""Pictures of latent space, for a model whose code is the mean of each half of an image."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from src.callbacks import image_series, latent_map
from src.callbacks.latent_walks import LatentWalks
from src.engine import build
from src.train import train
from tests.conftest import TINY


def test_no_walk_is_drawn_with_a_single_validation_image(config):
    cfg = config("model=vae", "data=digits", *TINY)
    data = build.datamodule(cfg)
    walks, model = LatentWalks(1, n=8, seed=0), build.model(cfg, data)
    data.val = data.val.subset(torch.arange(5))
    assert walks.draw(SimpleNamespace(datamodule=data), model).shape[0] == 2 * (2 * 28 + 2) + 2
    data.val = data.val.subset(torch.arange(1))
    assert walks.draw(SimpleNamespace(datamodule=data), model) is None


def test_the_latent_map_is_a_grid_of_quantiles(config, monkeypatch):
    """z_1 from left to right, z_2 from bottom to top; the points are Phi(mean of q(z | x))."""
    cfg = config("model=vae", "data=digits", *TINY, "model.latent_dim=2")
    data = build.datamodule(cfg)
    model, decoded, planes = build.model(cfg, data), [], []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda z: decoded.append(z) or decode(z))
    monkeypatch.setattr(latent_map, "draw_plane", lambda *args: planes.append(args))
    latent_map.LatentMap(1, n=3, seed=0).draw(SimpleNamespace(datamodule=data), model)
    low, middle, high = stats.norm.ppf([1 / 6, 3 / 6, 5 / 6])
    expected = [[z_1, z_2] for z_2 in (high, middle, low) for z_1 in (low, middle, high)]
    assert np.allclose(decoded[0], expected, atol=1e-6)
    images, _ = latent_map.probe_images(SimpleNamespace(datamodule=data), latent_map.POINTS)
    assert np.allclose(planes[0][1], stats.norm.cdf(model.encode(images)), atol=1e-5)


@pytest.mark.parametrize(("val_size", "words"), [(20, "validation images"), (0, "test images")])
def test_title_says_which_images_are_shown(config, tmp_path, monkeypatch, val_size, words):
    titles, add_title = [], image_series.add_title
    monkeypatch.setattr(
        image_series, "add_title", lambda *args: titles.append(args[1]) or add_title(*args)
    )
    walks = "{_target_: src.callbacks.latent_walks.LatentWalks, every_n_batches: 99, n: 2, seed: 0}"
    cfg = config(*TINY, "model=vae", "data=digits", f"data.val_size={val_size}", "test=false",
                 "trainer.max_epochs=1", f"+callbacks.walks={walks}")  # fmt: skip
    train(cfg, tmp_path)
    assert titles[-1].startswith(f"walks in latent space, in straight lines between two {words}\n")
