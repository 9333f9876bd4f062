"""Power laws of learning curves."""

import numpy as np
import pytest

from src.metrics.learning_curve import fit_power_law, forecast


def test_power_law_is_recovered_from_its_own_values():
    sizes = [1, 2, 4, 8, 16]
    law = fit_power_law(sizes, [0.8 * n**-0.5 for n in sizes], 1000)
    assert (law.a, law.b) == (pytest.approx(0.8), pytest.approx(0.5))
    assert law.error(64) == pytest.approx(0.1)


def test_errors_of_zero_do_not_break_the_fit():
    law = fit_power_law([1, 2, 4], [0.2, 0.0, 0.0], 50)
    assert 0 < law.error(8) < 0.05


def test_growing_errors_give_a_flat_law():
    assert fit_power_law([1, 2, 4], [0.1, 0.2, 0.3], 100).b == 0


def test_interval_of_a_forecast_holds_the_truth_about_as_often_as_it_says():
    sizes, n = [1, 2, 4], 150
    truth = 1 - 0.6 * 8**-0.6
    inside = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        difficulty = rng.random(n)  # a photo is right at a size if the error rate is below it
        correct = np.stack([(difficulty > 0.6 * m**-0.6).astype(float) for m in sizes])
        (found,) = forecast(sizes, correct, [8], seed)
        inside += found.low <= truth <= found.high
    assert inside >= 88  # a binomial of 100 and 0.95 is below 89 with probability 0.004


def test_one_size_assumes_that_the_error_halves_with_four_times_the_photos():
    n = 1000
    correct = (np.arange(n) >= 0.4 * n).astype(float)[None]
    at_8, at_32 = forecast([2], correct, [8, 32], seed=0)
    assert (at_8.accuracy, at_32.accuracy) == (pytest.approx(0.8), pytest.approx(0.9))
    for exponent in (0.2, 0.8):  # 1.5 standard errors of the exponent: within the interval
        assert at_8.low < 1 - 0.4 * 4**-exponent < at_8.high
        assert at_32.low < 1 - 0.4 * 16**-exponent < at_32.high


def test_there_is_no_forecast_without_errors():
    right, half = np.ones(20), np.arange(20) % 2
    assert forecast([1, 2], np.stack([half, right]), [4], seed=0) == []
    assert forecast([2], right[None], [4], seed=0) == []
    assert forecast([], np.zeros((0, 20)), [4], seed=0) == []
    assert len(forecast([1, 2], np.stack([half, half]), [4, 8], seed=0)) == 2


def test_no_forecast_is_below_the_measured_accuracy():
    photo, sizes = np.arange(100), [1, 2, 4, 8]
    correct = np.stack([photo >= wrong for wrong in (40, 39, 38, 5)]).astype(float)
    (found,) = forecast(sizes, correct, [16], seed=0)
    assert found.accuracy >= 0.95
