"""Accuracies of a classifier against counts by hand, and Wilson's interval against SciPy."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from src.metrics.accuracy import accuracy, class_accuracies
from src.metrics.confusion import ConfusionMatrix, TopK
from src.metrics.intervals import wilson

COUNTS = torch.tensor([[3, 1, 0], [0, 0, 0], [2, 0, 4]])  # (true, predicted); no image of class 1


def test_accuracy_is_the_share_on_the_diagonal_with_its_interval():
    low, high = wilson(7, 10)
    assert accuracy(COUNTS, "test/acc") == {
        "test/acc": 0.7,
        "test/acc_low": low,
        "test/acc_high": high,
    }


def test_a_class_without_images_has_no_accuracy():
    found = class_accuracies(COUNTS, ["a", "b", "c"])
    assert found == {"a": pytest.approx(3 / 4), "c": pytest.approx(4 / 6)}


def test_wilson_interval_equals_scipy():
    for successes, n in ((0, 10), (7, 10), (10, 10), (9_600, 10_000)):
        interval = binomtest(successes, n).proportion_ci(method="wilson")
        assert wilson(successes, n) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_counts_of_batches_equal_counts_of_all_images():
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 7
    confusion, first, third = ConfusionMatrix(7), TopK(), TopK(3)
    for counter in (confusion, first, third):
        for part, given in zip(logits.split(16), labels.split(16), strict=True):
            counter.update(part, given)
    expected = np.zeros((7, 7), dtype=int)
    np.add.at(expected, (labels.numpy(), logits.numpy().argmax(1)), 1)
    assert (confusion.counts.numpy() == expected).all()
    ranks = (logits.numpy() > logits.numpy()[np.arange(50), labels][:, None]).sum(1)
    assert first.counts.tolist() == [expected.trace(), 50]
    assert third.counts.tolist() == [(ranks < 3).sum(), 50]
    confusion.reset()
    assert confusion.counts.sum() == 0
