"""Each loss against NumPy or a known value; each mistake of public code is found."""

import inspect
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from src import losses
from src.losses import GANLoss, NonSaturating, RelativisticAverage, bernoulli_nll, gaussian_kl

RNG = np.random.default_rng(0)
REAL, FAKE = RNG.normal(0.3, 2, (7, 1)), RNG.normal(-0.5, 2, (7, 1))


def softplus(x):
    return np.logaddexp(0, x)


EXPECTED = {  # (discriminator, generator)
    "NonSaturating": (softplus(-REAL).mean() + softplus(FAKE).mean(), softplus(-FAKE).mean()),
    "LeastSquares": (
        0.5 * ((REAL - 1) ** 2).mean() + 0.5 * (FAKE**2).mean(),
        0.5 * ((FAKE - 1) ** 2).mean(),
    ),
    "Wasserstein": (FAKE.mean() - REAL.mean(), -FAKE.mean()),
    "Hinge": (
        np.maximum(0, 1 - REAL).mean() + np.maximum(0, 1 + FAKE).mean(),
        -FAKE.mean(),
    ),
    "RelativisticAverage": (
        softplus(-(REAL - FAKE.mean())).mean() + softplus(FAKE - REAL.mean()).mean(),
        softplus(-(FAKE - REAL.mean())).mean() + softplus(REAL - FAKE.mean()).mean(),
    ),
}
GAN_LOSSES = {
    name: loss
    for name, loss in vars(losses).items()
    if inspect.isclass(loss) and issubclass(loss, GANLoss) and loss is not GANLoss
}


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_gan_losses_against_numpy(name):
    loss, logits = GAN_LOSSES[name](), [torch.from_numpy(REAL), torch.from_numpy(FAKE)]
    values = [loss.discriminator(*logits), loss.generator(*logits)]
    assert [value.ndim for value in values] == [0, 0]
    assert [value.item() for value in values] == pytest.approx(EXPECTED[name], rel=1e-12)


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_a_generator_loss_says_whether_it_needs_real_logits(name):
    loss, fake = GAN_LOSSES[name](), torch.from_numpy(FAKE)
    if loss.generator_needs_real_logits:
        values = [loss.generator(torch.from_numpy(real), fake) for real in (REAL, REAL + 1)]
        assert values[0] != values[1]
    else:
        assert loss.generator(None, fake).isfinite()


def test_ragan_generator_gradient_ignores_a_shift_of_all_logits():
    """Only differences of logits count (Jolicoeur-Martineau 2018): a shift of both changes
    nothing."""
    gradients = []
    for shift in (0.0, 5.0):
        fake = torch.from_numpy(FAKE + shift).requires_grad_()
        RelativisticAverage().generator(torch.from_numpy(REAL + shift), fake).backward()
        gradients.append(fake.grad)
    assert torch.allclose(*gradients, atol=1e-12)


def test_bce_of_zero_logits_is_2_log_2():
    zero = torch.zeros(5, 1)
    assert NonSaturating().discriminator(zero, zero).item() == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_losses_of_extreme_logits_are_finite(name):
    """log(sigmoid(x)) computed in two steps is -inf at -200."""
    far = torch.full((3, 1), 200.0, requires_grad=True)
    loss = GAN_LOSSES[name]()
    value = loss.discriminator(-far, far) + loss.generator(far, -far)
    value.backward()
    assert value.isfinite()
    assert far.grad.isfinite().all()


def test_bce_of_extreme_logits_is_exact():
    far = torch.full((3, 1), 200.0)
    assert NonSaturating().discriminator(-far, far).item() == pytest.approx(400)


def test_label_smoothing_is_one_sided():
    real, fake = torch.from_numpy(REAL), torch.from_numpy(FAKE)
    expected = 0.9 * softplus(-REAL).mean() + 0.1 * softplus(REAL).mean() + softplus(FAKE).mean()
    value = NonSaturating(label_smoothing=0.1).discriminator(real, fake)
    assert value.item() == pytest.approx(expected)


class Quadratic(nn.Module):
    """D(x) = a/2 * sum x^2 over each sample: its gradient is a * x, known without autograd."""

    def __init__(self, a: float = 1.0) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=torch.float64))

    def forward(self, x):
        return (self.a / 2 * x.square()).flatten(1).sum(1, keepdim=True)


def test_penalty_is_the_mean_over_samples_of_the_norm_over_all_elements():
    """Fails for a norm over the batch, over one axis, or a penalty of the mean norm."""
    real, fake, mix = (
        RNG.normal(size=(4, 2, 3, 3)),
        RNG.normal(size=(4, 2, 3, 3)),
        RNG.uniform(size=(4, 1, 1, 1)),
    )
    a = 0.7
    x_hat = mix * real + (1 - mix) * fake
    norms = np.sqrt(((a * x_hat) ** 2).sum(axis=(1, 2, 3)))
    value = losses.gradient_penalty(Quadratic(a), *map(torch.from_numpy, (real, fake, mix)))
    assert value.item() == pytest.approx(((norms - 1) ** 2).mean(), rel=1e-12)


def test_penalty_trains_the_discriminator():
    """d penalty / da by a difference quotient: this needs the double backward."""
    real, fake, mix = (
        torch.from_numpy(RNG.normal(size=s)) for s in ((4, 1, 3, 3), (4, 1, 3, 3), (4, 1, 1, 1))
    )
    critic = Quadratic(0.7)
    losses.gradient_penalty(critic, real, fake, mix).backward()
    step = 1e-6
    up, down = (
        losses.gradient_penalty(Quadratic(0.7 + s), real, fake, mix).item() for s in (step, -step)
    )
    assert critic.a.grad.item() == pytest.approx((up - down) / (2 * step), rel=1e-6)
    assert abs(critic.a.grad.item()) > 0.1


def test_penalty_is_finite_where_the_gradient_is_zero():
    critic = nn.Sequential(nn.Flatten(), nn.Linear(9, 1))
    nn.init.zeros_(critic[1].weight)
    value = losses.gradient_penalty(
        critic, torch.zeros(2, 1, 3, 3), torch.zeros(2, 1, 3, 3), torch.rand(2, 1, 1, 1)
    )
    value.backward()
    assert value.item() == 1
    assert critic[1].weight.grad.isfinite().all()


def test_penalty_of_a_compiled_discriminator_still_trains():
    """Compiled, the second derivative was silently zero, so the discriminator must run eagerly
    here."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 1))
    real, fake, mix = torch.randn(4, 1, 3, 3), torch.randn(4, 1, 3, 3), torch.rand(4, 1, 1, 1)
    losses.gradient_penalty(critic, real, fake, mix).backward()
    eager = critic[1].weight.grad.clone()
    critic.zero_grad()
    critic.compile(backend="aot_eager")
    losses.gradient_penalty(critic, real, fake, mix).backward()
    assert eager.abs().sum() > 0
    assert torch.allclose(critic[1].weight.grad, eager)


def test_penalty_has_no_gradient_for_the_generator():
    real, fake = torch.randn(2, 1, 3, 3), torch.randn(2, 1, 3, 3, requires_grad=True)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.Tanh(), nn.Linear(4, 1))
    losses.gradient_penalty(critic, real, fake, torch.rand(2, 1, 1, 1)).backward()
    assert fake.grad is None


def test_style_losses_equal_numpy():
    """Equations 1, 3 and 4.

    Finds means instead of sums, and missing factors 1/2 and 1/(4 N^2 M^2).
    """
    noise = np.random.default_rng(0)
    f, p = noise.normal(size=(1, 3, 4, 5)), noise.normal(size=(1, 3, 4, 5))
    g = np.array([[sum(f[0, i].ravel() * f[0, j].ravel()) for j in range(3)] for i in range(3)])
    a = np.array([[sum(p[0, i].ravel() * p[0, j].ravel()) for j in range(3)] for i in range(3)])
    x, y = torch.tensor(f), torch.tensor(p)
    assert np.allclose(losses.gram(x)[0].numpy(), g)
    assert losses.content_loss(x, y).item() == pytest.approx(0.5 * ((f - p) ** 2).sum())
    expected = ((g - a) ** 2).sum() / (4 * 3**2 * 20**2)
    assert losses.style_loss(x, losses.gram(y), 20).item() == pytest.approx(expected)
    assert losses.style_loss(torch.cat([x, y]), losses.gram(y), 20).item() == pytest.approx(
        expected / 2
    )
    down, right = (np.diff(f, axis=axis) for axis in (2, 3))
    assert losses.total_variation(x).item() == pytest.approx((down**2).sum() + (right**2).sum())


def test_style_loss_does_not_depend_on_image_size():
    """A tiled texture has the same statistics, so its loss is zero."""
    maps = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    assert losses.style_loss(
        maps.repeat(1, 1, 2, 3), losses.gram(maps), 16
    ).item() == pytest.approx(0, abs=1e-12)


def test_cycle_consistency_is_the_mean_absolute_difference():
    images = torch.tensor([0.5, -1.0, 2.0])
    assert losses.cycle_consistency(images, torch.zeros(3)).item() == pytest.approx(3.5 / 3)


def test_gaussian_kl_equals_torch_distributions():
    """Slip: the constant T/2 instead of n_z/2 a step, invisible where T = n_z."""
    mu, log_sigma = torch.randn(4, 7, 3), torch.randn(4, 7, 3)
    expected = kl_divergence(Normal(mu, log_sigma.exp()), Normal(0, 1)).sum(2)
    assert torch.allclose(gaussian_kl(mu, log_sigma), expected, atol=1e-5)
    assert torch.equal(gaussian_kl(torch.zeros(2, 5), torch.zeros(2, 5)), torch.zeros(2))


def test_bernoulli_nll_equals_torch_distributions_and_is_stable():
    """Slip: log(1e-10 + p), whose loss at logits of +-60 is 23.03 instead of 60."""
    logits, x = torch.randn(3, 2, 4, 5), (torch.rand(3, 2, 4, 5) > 0.5).float()
    expected = -Bernoulli(logits=logits).log_prob(x).sum(dim=(1, 2, 3))
    assert torch.allclose(bernoulli_nll(logits, x), expected, atol=1e-5)
    far = bernoulli_nll(torch.tensor([[[[60.0]]]]), torch.zeros(1, 1, 1, 1))
    assert far.item() == pytest.approx(60)
