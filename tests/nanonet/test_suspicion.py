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
    assert (found[0].predicted, found[0].probability) == (1, probabilities[2, 1])


def test_the_least_probable_label_comes_first_and_one_as_probable_as_a_guess_is_not_listed():
    labels = torch.full((4,), 0)
    given = torch.tensor([0.03, 0.06, 0.004, 0.02])  # of 20 classes; a guess has 0.05
    probabilities = torch.full((4, 20), 0.0)
    probabilities[:, 0], probabilities[:, 7] = given, 1 - given
    assert [one.photo for one in suspicious_labels(probabilities, labels)] == [2, 3, 0]


def test_photos_that_were_never_held_out_are_not_suspicious():
    labels = torch.tensor([0, 0, 1])
    probabilities = torch.tensor([[0.9, 0.1], [torch.nan, torch.nan], [0.1, 0.9]])
    assert suspicious_labels(probabilities, labels) == []
