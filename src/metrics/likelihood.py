"""What a latent variable model's bound leaves out: the importance-weighted estimate of -log p(x)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def importance_weighted(log_weights: Callable[[int], Tensor], samples: int, chunk: int) -> Tensor:
    """-log (1/k sum_i p(x, z_i) / q(z_i | x)) in nats, (B,), Burda 2016, eq. 8: k = 1 is the bound, more can only lower it
    in expectation.

    Args:
        log_weights: m -> log p(x, z) - log q(z | x) of m fresh draws of z, (m, B).
        samples: k.
        chunk: draws at a time; the sum goes on over the chunks in float64, so nothing but time depends on it.
    """
    total: Tensor | None = None
    for done in range(0, samples, chunk):
        part = log_weights(min(chunk, samples - done)).double().logsumexp(0)
        total = part if total is None else torch.logaddexp(total, part)
    assert total is not None
    return math.log(samples) - total
