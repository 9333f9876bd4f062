"""Pictures of latent space, for a model whose code is the mean of each half of an image."""

from types import SimpleNamespace

import numpy as np
import torch

from src.callbacks.latent_walks import LatentWalks
from src.engine import build
from src.viz.scatter import draw_scatter
from tests.conftest import TINY


def test_scatter_puts_points_at_their_coordinates():
    """One class at the bottom left, the other at the top right, in a square of 101 pixels."""
    points = torch.tensor([[0.1, 0.1], [0.9, 0.8]])
    picture = draw_scatter(points, torch.tensor([0, 1]), ["a", "b"], side=101)
    assert picture.shape == (101, 101 + 110, 3)
    first, second = picture[90, 10], picture[20, 90]
    assert not np.array_equal(first, second)
    for color, (row, column) in ((first, (90, 10)), (second, (20, 90))):
        places = np.argwhere((picture[1:100, 1:100] == color).all(2)) + 1
        assert np.allclose(places.mean(0), (row, column), atol=0.5)


def test_scatter_without_classes_has_no_legend():
    points = torch.rand(5, 2)
    assert draw_scatter(points, torch.zeros(5, dtype=torch.long), [], side=50).shape == (50, 50, 3)


def test_no_walk_is_drawn_with_a_single_validation_image(config):
    cfg = config("model=vae", "data=digits", *TINY)
    data = build.datamodule(cfg)
    walks, model = LatentWalks(1, n=8, seed=0), build.model(cfg, data)
    data.val = data.val.subset(torch.arange(5))
    assert walks.draw(SimpleNamespace(datamodule=data), model).shape[0] == 2 * (2 * 28 + 2) + 2
    data.val = data.val.subset(torch.arange(1))
    assert walks.draw(SimpleNamespace(datamodule=data), model) is None
