"""Random numbers as a function of their position."""

import numpy as np
import torch
from scipy import stats

from src.core.randomness import CounterRNG, _hash


def test_counter_rng_is_splitmix64_and_uniform():
    golden = 0x9E3779B97F4A7C15 - 2**64
    first = _hash(
        torch.arange(1, 4) * golden
    )  # of the seed 0, as Steele's, Java's and Vigna's give them
    assert [value % 2**64 for value in first.tolist()] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]
    draws = CounterRNG(torch.arange(20000), 3)
    assert stats.kstest(draws.uniform(5).flatten().numpy(), "uniform").pvalue > 0.01
    normal = draws.normal(5)
    assert normal.shape == (20000, 5)
    assert stats.kstest(normal.flatten().numpy(), "norm").pvalue > 0.01
    several = torch.cat(
        [
            draws.uniform(2),
            normal,
            CounterRNG(torch.arange(20000), 4).uniform(2),
            draws.fork("a").uniform(2),
        ],
        1,
    )
    assert np.abs(np.corrcoef(several.numpy().T) - np.eye(11)).max() < 0.03
