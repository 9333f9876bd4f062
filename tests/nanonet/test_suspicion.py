"""Suspicious labels."""

import torch

from src.nanonet.suspicion import suspicious_labels


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
