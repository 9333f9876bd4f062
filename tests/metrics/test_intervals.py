"""Intervals of differences: Newcombe's published values, SciPy, and a computation by hand."""

import numpy as np
import pytest
from scipy import stats

from src.metrics.intervals import newcombe, welch


@pytest.mark.parametrize(  # Newcombe 1998, Statistics in Medicine 17, table II, method 10
    ("successes", "n", "expected"),
    [
        ((56, 48), (70, 80), (0.0524, 0.3339)),
        ((9, 3), (10, 10), (0.1705, 0.8090)),
        ((6, 2), (7, 7), (0.0582, 0.8062)),
        ((5, 0), (56, 29), (-0.0381, 0.1926)),
        ((0, 0), (10, 20), (-0.1611, 0.2775)),
        ((10, 0), (10, 10), (0.6075, 1.0000)),
    ],
)
def test_newcombe_interval_equals_the_published_values(successes, n, expected):
    assert newcombe(successes, n) == pytest.approx(expected, abs=5e-5)


def test_newcombe_interval_changes_sign_with_the_order():
    low, high = newcombe([40, 30], [50, 60])
    assert newcombe([30, 40], [60, 50]) == pytest.approx((-high, -low))


def test_welch_interval_equals_scipy():
    noise = np.random.default_rng(0)
    for sizes in ((2, 2), (3, 5), (10, 4)):
        first, second = (noise.normal(k, 1 + 3 * k, size) for k, size in enumerate(sizes))
        expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
        assert welch(list(first), list(second)) == pytest.approx(tuple(expected))


def test_welch_interval_of_constant_values_is_their_difference():
    assert welch([0.5, 0.5], [0.25, 0.25]) == (0.25, 0.25)
