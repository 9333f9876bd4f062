"""The learning rate that a range test suggests."""

import math

import numpy as np
import pytest

from src.metrics.lr_range import smoothed, steepest


def curve(n=200, fall=1e-3, rise=0.3):
    """Losses that fall fastest at the rate `fall`, and explode from `rise` on."""
    rates = np.geomspace(1e-6, 1, n)
    falling = 2 / (1 + (rates / fall) ** 2)
    return rates.tolist(), (falling + (rates / rise) ** 4).tolist()


def test_suggestion_is_where_the_loss_falls_fastest():
    rates, losses = curve()
    assert steepest(rates, losses) == pytest.approx(1e-3, rel=0.1)


def test_smoothing_removes_noise_without_a_shift():
    rates, losses = curve()
    noisy = (np.array(losses) + 0.1 * np.random.default_rng(0).normal(size=200)).tolist()
    found = steepest(rates, smoothed(noisy))
    assert abs(math.log10(found / 1e-3)) < 0.5
    assert smoothed([2.0] * 50) == pytest.approx([2.0] * 50)


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
def test_loss_that_does_not_fall_suggests_nothing(losses):
    assert steepest([10.0**-k for k in range(len(losses), 0, -1)], losses) is None
