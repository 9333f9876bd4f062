"""Images unlike those of training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from src.core.errors import UserError
from src.models.familiar import (
    FILE,
    Familiar,
    digest_below_head,
    learn_familiar,
    neighbor_distance,
)


def test_neighbor_distance_equals_numpy():
    noise = torch.Generator().manual_seed(0)
    queries, known = (torch.randn(n, 7, generator=noise) for n in (5, 11))
    distances = np.linalg.norm(queries.numpy()[:, None] - known.numpy()[None], axis=2)
    expected = np.sort(distances, 1)[:, :3].mean(1)
    np.testing.assert_allclose(neighbor_distance(queries, known), expected, rtol=1e-4)


def test_familiar_accepts_most_photos_of_the_classes_and_rejects_others():
    noise = torch.Generator().manual_seed(0)
    center = torch.randn(20, generator=noise)
    own = center + 0.3 * torch.randn(200, 20, generator=noise)
    unit = torch.nn.functional.normalize(own, dim=1)
    distances = torch.full((200,), torch.nan)
    for k in range(1, 4):  # a quarter was never held out
        held_out = torch.arange(200) % 4 == k
        distances[held_out] = neighbor_distance(unit[held_out], unit[~held_out])
    familiar = learn_familiar(own, distances)
    fresh = center + 0.3 * torch.randn(200, 20, generator=noise)
    other = torch.randn(200, 20, generator=noise)
    assert (familiar.distance(fresh) <= familiar.threshold).float().mean() > 0.88
    assert (familiar.distance(other) > familiar.threshold).float().mean() > 0.99


def test_it_is_read_back_for_the_network_that_computed_its_features(tmp_path: Path):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    assert Familiar.load(tmp_path, net) is None
    made = Familiar(torch.rand(3, 4), 0.5, digest_below_head(net))
    made.save(tmp_path)
    nn.init.zeros_(net[2].weight)  # the head may be trained further
    read = Familiar.load(tmp_path, net)
    assert torch.equal(read.features, made.features)
    assert read.threshold == 0.5
    net(torch.rand(5, 3))  # changes the statistics of the BatchNorm
    assert Familiar.load(tmp_path, net) is None


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_damaged_file_is_one_line(tmp_path: Path, content):
    if content is None:
        torch.save({"features": torch.rand(2, 2)}, tmp_path / FILE)
    else:
        (tmp_path / FILE).write_bytes(content)
    with pytest.raises(UserError, match=r"familiar\.pt is damaged"):
        Familiar.load(tmp_path, nn.Linear(2, 2))


def test_without_distances_every_image_is_familiar():
    familiar = learn_familiar(torch.rand(2, 3), torch.full((2,), torch.nan))
    assert (familiar.distance(torch.rand(5, 3)) <= familiar.threshold).all()
