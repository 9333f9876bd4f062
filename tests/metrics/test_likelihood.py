"""The importance-weighted estimate against models with known evidence, and against DRAW's bound."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from src.metrics.likelihood import importance_weighted
from tests.nets.test_draw import batch, make, module


def test_estimate_approaches_the_evidence_of_a_linear_gaussian_model():
    """z ~ N(0, 1) and x | z ~ N(z, 1/4), so x ~ N(0, 5/4). A larger k improves the estimate."""
    x = torch.tensor([0.3, -1.2, 2.0])
    evidence = -Normal(0.0, 1.25**0.5).log_prob(x)
    generator = torch.Generator().manual_seed(0)
    proposal = Normal(0.5 * x, 0.9)

    def log_weights(m):
        z = proposal.loc + proposal.scale * torch.randn(m, 3, generator=generator)
        return Normal(0.0, 1.0).log_prob(z) + Normal(z, 0.5).log_prob(x) - proposal.log_prob(z)

    means = [
        torch.stack([importance_weighted(log_weights, k, 7) for _ in range(4000 // k)]).mean(0)
        for k in (1, 10, 100)
    ]
    assert (means[0] > means[1]).all()
    assert (means[1] > means[2]).all()
    assert (means[2] > evidence - 0.02).all()
    assert torch.allclose(
        importance_weighted(log_weights, 100_000, 3000).float(), evidence, atol=0.02
    )


def test_estimate_is_exact_with_the_exact_posterior():
    x = torch.tensor([0.3, -1.2])
    posterior = Normal(0.8 * x, 0.2**0.5)

    def log_weights(m):
        z = posterior.sample((m,))
        return Normal(0.0, 1.0).log_prob(z) + Normal(z, 0.5).log_prob(x) - posterior.log_prob(z)

    for k in (1, 5):
        assert torch.allclose(
            importance_weighted(log_weights, k, 2).float(),
            -Normal(0.0, 1.25**0.5).log_prob(x),
            atol=1e-5,
        )


def test_estimate_is_stable_for_extreme_weights():
    """exp(-5000) is 0 in every float type."""
    weights = torch.tensor([[-5000.0], [-5001.0], [-5002.0]])
    queue = list(weights.split(1))
    expected = 5000 - np.log((1 + np.exp(-1) + np.exp(-2)) / 3)
    assert importance_weighted(lambda m: queue.pop(0), 3, 1).item() == pytest.approx(
        expected, rel=1e-9
    )


def test_estimate_with_one_draw_is_the_bound():
    """DRAW's estimate with k = 1 equals the bound in the mean; with k = 50 it is lower."""
    model = module(make())
    x, _ = batch(model.net, 2)
    many = x.repeat(2000, 1, 1, 1)
    weights = model.log_weights(many, torch.Generator().manual_seed(0)).view(2000, 2)
    torch.manual_seed(0)
    bound = model(many)["bound_nats"].view(2000, 2).detach()
    assert torch.allclose(-weights.mean(0), bound.mean(0), rtol=0.01)
    better = importance_weighted(lambda m: weights[:m], 50, 50)
    assert (better < bound.mean(0)).all()
