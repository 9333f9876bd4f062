"""DRAW's loss, noise and samples."""

import numpy as np
import pytest
import torch

from tests.nets.test_draw import SHAPES, batch, draw_paper, make, module, sigmoid


@pytest.mark.parametrize("kind", SHAPES)
def test_the_loss_is_the_mean_of_both_terms(kind):
    model = module(make(kind))
    x, _ = batch(model.net)
    torch.manual_seed(5)
    step = model.training_step((x, torch.empty(0)), 0)
    torch.manual_seed(5)
    eps = torch.randn(4, 3, 3)
    recon, kl = [], []
    for k in range(3):
        canvas, mu, log_sigma = draw_paper(
            model.net, x[k].double().numpy(), eps[:, k].double().numpy()
        )
        p, pixels = sigmoid(canvas), x[k].double().numpy()
        recon.append(-(pixels * np.log(p) + (1 - pixels) * np.log(1 - p)).sum())
        kl.append(
            0.5 * (mu**2 + np.exp(2 * log_sigma) - 2 * log_sigma).sum() - 4 * 3 / 2
        )  # T steps of n_z / 2
    assert step["recon_nats"].item() == pytest.approx(np.mean(recon), rel=1e-4)
    assert step["kl_nats"].item() == pytest.approx(np.mean(kl), rel=1e-4)
    assert step["loss"].item() == pytest.approx(np.mean(recon) + np.mean(kl), rel=1e-4)


def test_every_step_has_its_own_noise():
    """Slip: one noise tensor for all T steps."""
    model = module(make())
    seen = []
    model.net.register_forward_pre_hook(lambda net, args: seen.append(args[1]))
    model(batch(model.net)[0])
    (eps,) = seen
    assert eps.shape == (4, 3, 3)
    assert len({tuple(row) for row in eps.flatten(1).tolist()}) == 4


def test_samples_come_from_the_prior():
    """Slip: 'samples' that are reconstructions. They take no image, use neither encoder nor
    reading, and follow the noise."""
    model = module(make())
    model.net.cell.encoder.forward = model.net.cell.forward = None
    a, b = (model.sample(5, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert a.shape == (5, 1, 9, 7)
    assert not torch.allclose(a, b)
    z = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(a, model.net.decode(z)[0][-1].sigmoid())
