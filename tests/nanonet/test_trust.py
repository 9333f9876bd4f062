"""Suspicious labels, and photos unlike those of training."""

import numpy as np
import torch

from src.nanonet.trust import learn_familiar, neighbor_distance, suspicious_labels


def test_a_swapped_label_is_suspicious_and_an_unsure_prediction_is_not():
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    probabilities = torch.tensor(
        [[0.9, 0.1], [0.8, 0.2], [0.02, 0.98], [0.1, 0.9], [0.45, 0.55], [0.52, 0.48]]
    )
    found = suspicious_labels(probabilities, labels)
    assert [one.photo for one in found] == [2]
    assert found[0].predicted == 1


def test_photos_that_were_never_held_out_are_not_suspicious():
    labels = torch.tensor([0, 0, 1])
    probabilities = torch.tensor([[0.9, 0.1], [torch.nan, torch.nan], [0.1, 0.9]])
    assert suspicious_labels(probabilities, labels) == []


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
    folds = [(torch.arange(200) % 4 != k, torch.arange(200) % 4 == k) for k in range(4)]
    indices = [(a.nonzero().flatten(), b.nonzero().flatten()) for a, b in folds]
    familiar = learn_familiar(own, indices)
    fresh = center + 0.3 * torch.randn(200, 20, generator=noise)
    other = torch.randn(200, 20, generator=noise)
    assert (familiar.distance(fresh) <= familiar.threshold).float().mean() > 0.88
    assert (familiar.distance(other) > familiar.threshold).float().mean() > 0.99
