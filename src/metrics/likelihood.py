"""The importance-weighted estimate of -log p(x), which is tighter than the bound."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def importance_weighted(log_weights: Callable[[int], Tensor], samples: int, chunk: int) -> Tensor:
    """Return -log (1/k sum_i p(x, z_i) / q(z_i | x)) in nats, (B,) (Burda 2015, eq. 8).

    With k = 1 this is the bound. A larger k lowers it in expectation.

    Args:
        log_weights: m -> log p(x, z) - log q(z | x) for m new draws of z, (m, B).
        samples: k.
        chunk: number of draws at a time. The sum is accumulated in float64, so this affects time
            only.
    """
    total: Tensor | None = None
    for done in range(0, samples, chunk):
        part = log_weights(min(chunk, samples - done)).double().logsumexp(0)
        total = part if total is None else torch.logaddexp(total, part)
    assert total is not None
    return math.log(samples) - total
