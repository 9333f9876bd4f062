"""Calibration, compared with independent computations."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from src.metrics.calibration import expected_calibration_error, fit_temperature


def sample(n: int, k: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (n, k), and labels drawn from their probabilities."""
    noise = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, k, generator=noise, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=noise)[:, 0]
    return logits, labels


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_temperature_undoes_a_factor_on_calibrated_logits(factor: float):
    logits, labels = sample(20_000, 5, seed=0)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.03)


def test_temperature_is_the_minimum_of_the_cross_entropy():
    logits, labels = sample(300, 4, seed=1)

    target = np.full((300, 4), 1 / 302 / 3)  # NumPy, not the code under test
    target[np.arange(300), labels.numpy()] = 1 - 1 / 302

    def loss(t: float) -> float:
        scaled = logits.numpy() / t
        log_p = scaled - np.log(np.exp(scaled).sum(1, keepdims=True))
        return -float(np.mean((target * log_p).sum(1)))

    found = fit_temperature(logits, labels)
    assert all(loss(found) <= loss(found * step) + 1e-9 for step in (0.98, 0.999, 1.001, 1.02))


def test_few_images_that_are_all_right_do_not_make_the_net_sure_of_everything():
    logits = torch.eye(3).repeat(3, 1) * 5
    temperature = fit_temperature(logits, torch.arange(3).repeat(3))
    confidence = (logits / temperature).softmax(1).max()
    assert confidence == pytest.approx(1 - 1 / 11, abs=1e-3)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_calibration_error_equals_torchmetrics(bins: int):
    logits, labels = sample(500, 6, seed=2)
    probabilities = (3 * logits).softmax(1)
    expected = multiclass_calibration_error(probabilities, labels, 6, n_bins=bins, norm="l1")
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(
        float(expected), abs=1e-6
    )
