"""The VAE against its equations in NumPy, mistakes of public code, and the pictures of a run."""

import json

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp

from src.config.checks import check
from src.config.compose import compose
from src.core.errors import UserError
from src.engine import build
from src.engine.load import load_run
from src.evaluate import evaluate
from src.losses import gaussian_kl
from src.metrics.likelihood import importance_weighted
from src.train import train
from tests.conftest import TINY, call, saved

SMALL = (*TINY, "model=vae", "model.latent_dim=3", "data.size=[7,6]", "data.val_size=20")
NETS = {
    "fc": ("model.net.encoder.hidden_dims=[8,5]",),
    "tanh": ("model.net.encoder.activation=tanh",),
    "conv": ("model/net=vae_conv", "model.net.encoder.base_channels=4"),
    "gaussian": ("model.likelihood=gaussian", "model.sigma=0.2"),
    "learned sigma": ("model.likelihood=gaussian", "model/net=vae_conv"),
}


def test_sigma_without_a_gaussian_is_refused(config):
    with pytest.raises(UserError, match=r"sigma=0\.1 has no effect without likelihood=gaussian"):
        build.model(config(*SMALL, "model.sigma=0.1", "data=digits"))


@pytest.fixture
def make(config):
    """Overrides -> a small model with weights away from zero, in eval mode."""

    def model(*overrides):
        torch.manual_seed(0)
        built = build.model(config(*SMALL, *overrides)).eval()
        with torch.no_grad():
            for parameter in built.net.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return built

    return model


def images(n=4):
    return torch.rand(n, 1, 7, 6, generator=torch.Generator().manual_seed(1))


def numpy_terms(model, x, eps):
    """L_x and L_z of each image from the networks' outputs, by scipy's densities in float64."""
    with torch.no_grad():
        mu, log_sigma = model.net.encoder(x).double().chunk(2, 1)
        z = mu + log_sigma.exp() * eps
        logits = model.net.decoder(z.float()).double().numpy()
    mean = 1 / (1 + np.exp(-logits))
    pixels = x.double().numpy()
    if model.likelihood == "bernoulli":
        log_p = pixels * np.log(mean) + (1 - pixels) * np.log(1 - mean)
    else:
        log_p = stats.norm.logpdf(pixels, mean, np.exp(model.log_sigma.item()))
    mu, sigma, z = mu.numpy(), log_sigma.exp().numpy(), z.numpy()
    kl = 0.5 * (mu**2 + sigma**2 - np.log(sigma**2) - 1).sum(1)
    log_w = stats.norm.logpdf(z).sum(1) - stats.norm.logpdf(z, mu, sigma).sum(1)
    return -log_p.sum((1, 2, 3)), kl, log_w + log_p.sum((1, 2, 3))


@pytest.mark.parametrize("kind", NETS)
def test_bound_against_numpy(make, kind):
    """Slips: KL averaged over latents or pixels, sigma = exp(log variance), MSE for a
    likelihood."""
    model, x = make(*NETS[kind]), images()
    eps = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    nats = model(x, eps)
    recon, kl, _ = numpy_terms(model, x, eps)
    assert nats["recon_nats"].detach().numpy() == pytest.approx(recon, rel=1e-4)
    assert nats["kl_nats"].detach().numpy() == pytest.approx(kl, rel=1e-4)
    assert nats["bound_nats"].detach().numpy() == pytest.approx(recon + kl, rel=1e-4)


@pytest.mark.parametrize("kind", ["fc", "gaussian"])
def test_importance_weighted_estimate_against_numpy(make, kind):
    model, x = make(*NETS[kind]), images()
    noise = torch.Generator().manual_seed(3)
    estimate = importance_weighted(
        lambda m: torch.stack([model.log_weights(x, noise) for _ in range(m)]), 30, 7
    )
    noise = torch.Generator().manual_seed(3)
    weights = [numpy_terms(model, x, torch.randn(4, 3, generator=noise))[2] for _ in range(30)]
    assert estimate.numpy() == pytest.approx(np.log(30) - logsumexp(weights, axis=0), rel=1e-4)


def test_beta_changes_the_loss_but_not_the_reported_bound(make):
    steps = {}
    for beta in (1, 4):
        model = make(f"model.beta={beta}")
        torch.manual_seed(4)
        steps[beta] = model.training_step((images(), None), 0)
    assert steps[4]["bound_nats"] == steps[1]["bound_nats"] == steps[1]["loss"]
    expected = steps[4]["recon_nats"] + 4 * steps[4]["kl_nats"]
    assert steps[4]["loss"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_kl_is_zero_only_at_the_prior():
    assert gaussian_kl(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0
    assert gaussian_kl(torch.zeros(1, 3), torch.full((1, 3), 0.1)).item() > 0


@pytest.mark.parametrize("sigma", ["null", "0.2"])
def test_sigma_is_learned_only_if_null(make, sigma):
    model = make("model.likelihood=gaussian", f"model.sigma={sigma}")
    model.training_step((images(), None), 0)["loss"].backward()
    assert (model.log_sigma.grad is not None) == (sigma == "null")


def test_samples_come_from_the_prior_and_use_no_encoder(make):
    """Slip: 'samples' that are decoded test images."""
    model = make()
    model.net.encoder.forward = None
    samples = [model.sample(5, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert samples[0].shape == (5, 1, 7, 6)
    assert torch.equal(samples[0], samples[1])
    assert not torch.allclose(samples[0], samples[2])


def test_walk_starts_and_ends_at_its_latents(make):
    model = make()
    walks = model.interpolate(2, 4, torch.Generator().manual_seed(0)).unflatten(0, (2, 4))
    start, end = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(walks[:, 0], model.decode(start))
    assert torch.allclose(walks[:, -1], model.decode(end))


def test_bf16_stays_within_a_hundredth_of_float32(make):
    model, x = make("model/net=vae_conv"), images()
    eps = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    exact = model(x, eps)["bound_nats"]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(x, eps)["bound_nats"]
    assert rounded.dtype == torch.float32
    assert torch.allclose(rounded, exact, rtol=0.01)


def test_active_units_are_those_whose_mean_varies_with_the_image(make, config, tmp_path):
    """Burda 2015: the variance of mu over the images is above 0.01, against NumPy."""
    model, cfg = make(), config(*SMALL)
    head = [layer for layer in model.net.encoder.modules() if isinstance(layer, torch.nn.Linear)][
        -1
    ]
    with torch.no_grad():
        head.weight[0], head.bias[0] = 0, 1  # mu_1 is 1 for all images
        head.weight[1] *= 30
    data = build.datamodule(cfg)
    trainer = build.trainer(cfg, tmp_path)
    trainer.test(model, datamodule=data, verbose=False)
    with torch.no_grad():
        mu = model.net.encode(data.test.images.float() / 255).mu.double().numpy()
    active = np.var(mu, axis=0) > 0.01
    assert not active[0]
    assert active[1]
    assert trainer.callback_metrics["test/active_units"] == active.sum()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run with two latents on digits, with all pictures."""
    cfg = compose(
        "train",
        [
            *TINY,
            "data.limit=400",
            "data.size=16",
            "data.val_size=100",
            "model=vae",
            "model.latent_dim=2",
            "model.net.encoder.hidden_dims=[64]",
            "model.net.encoder.activation=tanh",
            "model.net.decoder.activation=tanh",
            "model.optimizer.lr=1e-2",
            "trainer.max_epochs=20",
            "callbacks=default",
            "~callbacks.quality",
            "~callbacks.weights",
            "~callbacks.filters",
            "logger=csv",
            "callbacks.latent_map.n=5",
            f"cache={tmp_path_factory.mktemp('cache')}",
        ],
    )
    check(cfg)
    folder = saved(cfg, tmp_path_factory.mktemp("vae") / "run")
    train(cfg, folder)
    return folder


def test_a_run_learns_the_digits(run):
    """Below a pixel-wise Bernoulli model (each pixel by its mean), which needs no latents."""
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["nats_of"].startswith("digits")
    assert metrics["test/bound_nats"] == pytest.approx(
        metrics["test/recon_nats"] + metrics["test/kl_nats"]
    )
    assert metrics["test/active_units"] == 2
    cfg, _, _ = load_run(run)
    data = build.datamodule(cfg)
    pixels = data.test.images.double().flatten(1) / 255
    p = pixels.mean(0).clamp(0.01, 0.99)
    baseline = -(pixels * p.log() + (1 - pixels) * (1 - p).log()).sum(1).mean().item()
    assert metrics["test/bound_nats"] < baseline - 2


def test_a_run_draws_its_latent_space(run):
    for name in ("samples", "reconstructions", "walks", "latent_map"):
        assert (run / "images" / f"{name}.gif").is_file(), name


def test_evaluate_estimates_the_likelihood(run):
    values = call("evaluate", evaluate, f"run={run}", "iwae_samples=20")
    assert values["test/iwae_nats"] < values["test/bound_nats"]
