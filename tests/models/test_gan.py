"""A training step of the GAN against the same step written out; each mistake of public code."""

import copy

import pytest
import torch
import torch.nn.functional as F

from src.core import runs
from src.core.errors import UserError
from src.core.randomness import derive_seed
from src.engine import build
from src.train import train
from tests.conftest import TINY, TINY_NETS
from tests.contract.small import MODELS, class_of

ONE = (*TINY, *TINY_NETS, "data.val_size=0", "trainer.max_epochs=1", "test=false")


def one_batch(config, *overrides, base=ONE):
    """Return (cfg, model, data, images) of a run with a single batch of 32, before training."""
    cfg = config(*base, "data.limit=32", *overrides)
    torch.manual_seed(cfg.seed)
    data = build.datamodule(cfg)
    model = build.model(cfg, data)
    order = next(iter(data._loader(data.train, "train").sampler))
    return cfg, model, data, data.train.images[order].float() / 255 * 2 - 1


def fit(cfg, model, data, tmp_path):
    trainer = build.trainer(cfg, tmp_path)
    trainer.fit(model, datamodule=data)
    return trainer


def bce_losses(d, real, fake):
    """Return the losses of D and of G (Goodfellow 2014), as functions without arguments."""
    one, zero, bce = torch.ones(32, 1), torch.zeros(32, 1), F.binary_cross_entropy_with_logits
    return (
        lambda: bce(d(real), one) + bce(d(fake.detach()), zero),
        lambda: bce(d(fake), one),
    )


def wgan_gp_losses(d, real, fake):
    """The same of Gulrajani 2017, algorithm 1, with lambda = 10 and one epsilon per image."""

    def d_loss():
        epsilon = torch.rand(32, 1, 1, 1)
        mixed = (epsilon * real + (1 - epsilon) * fake.detach()).requires_grad_()
        (slope,) = torch.autograd.grad(d(mixed).sum(), mixed, create_graph=True)
        penalty = ((slope.square().sum((1, 2, 3)).sqrt() - 1) ** 2).mean()
        return d(fake.detach()).mean() - d(real).mean() + 10 * penalty

    return d_loss, lambda: -d(fake).mean()


@pytest.mark.parametrize(("loss", "losses"), [("bce", bce_losses), ("wgan_gp", wgan_gp_losses)])
def test_training_step_equals_the_formulas(config, tmp_path, loss, losses):
    """Adam on the loss of D, then on that of G with the updated D, with the same fakes."""
    cfg, model, data, real = one_batch(config, f"model/loss={loss}")
    g, d = copy.deepcopy(model.generator), copy.deepcopy(model.discriminator)
    fit(cfg, model, data, tmp_path)

    torch.manual_seed(derive_seed(cfg.seed, "train", 0, 0, 0))
    z = torch.rand(32, 96) * 2 - 1
    d_optimizer = torch.optim.Adam(d.parameters(), 1e-3, betas=(0.5, 0.999))
    g_optimizer = torch.optim.Adam(g.parameters(), 1e-3, betas=(0.5, 0.999))
    d_loss, g_loss = losses(d, real, g(z))
    d_loss().backward()
    d_optimizer.step()
    g_optimizer.zero_grad()
    g_loss().backward()
    g_optimizer.step()
    for ours, by_hand in ((model.generator, g), (model.discriminator, d)):
        for a, b in zip(ours.parameters(), by_hand.parameters(), strict=True):
            assert torch.allclose(a, b, atol=2e-6)


def test_fakes_are_generated_once_per_step(config, tmp_path):
    cfg, model, data, _ = one_batch(config)
    calls = []
    model.generator.register_forward_hook(lambda *_: calls.append(1))
    fit(cfg, model, data, tmp_path)
    assert len(calls) == 1


def test_generator_step_computes_no_gradients_of_the_discriminator(config, tmp_path, monkeypatch):
    cfg, model, data, _ = one_batch(config)
    trained = []
    generator_loss = model.loss.generator

    def spy(real_logits, fake_logits):
        assert real_logits is None, "this loss does not need them"
        trained.append([p.requires_grad for p in model.discriminator.parameters()])
        return generator_loss(real_logits, fake_logits)

    model.loss.generator = spy
    fit(cfg, model, data, tmp_path)
    assert not any(trained[0])
    assert all(p.requires_grad for p in model.discriminator.parameters())


def test_discriminator_only_step_builds_no_graph_of_the_generator(config, tmp_path):
    """With n_critic = 5, the first batch computes no gradient of the generator and does not change
    it."""
    cfg, model, data, _ = one_batch(config, "model.n_critic=5")
    made, before = [], copy.deepcopy(model.generator.state_dict())
    model.generator.register_forward_hook(lambda module, args, out: made.append(out.requires_grad))
    fit(cfg, model, data, tmp_path)
    assert made == [False]
    for name, value in model.generator.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(("n_critic", "steps"), [(1, 8), (3, 2), (5, 1)])
def test_n_critic_counts_over_epochs(config, tmp_path, n_critic, steps):
    """In 2 epochs of 4 batches, the generator steps at every n_critic-th of the 8 batches."""
    cfg = config(*ONE, f"model.n_critic={n_critic}", "trainer.max_epochs=2", "model.ema=0.9")
    train(cfg, tmp_path)
    model = build.model(cfg)
    state = runs.load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    model.load_state_dict(state["state_dict"])
    assert model.ema.updates == steps
    d_state, g_state = state["optimizer_states"]
    assert d_state["state"][0]["step"] == 8
    assert g_state["state"][0]["step"] == steps


def test_generator_that_is_never_trained_is_reported(config, tmp_path):
    cfg = config("model=wgan", *TINY, "data.limit=64", "data.batch_size=32", "data.val_size=0",
                 "trainer.max_epochs=1", "model.n_critic=5", "test=false")  # fmt: skip
    train(cfg, tmp_path)
    log = (tmp_path / "train.log").read_text()
    assert "model.n_critic=5 is more than the 2 batches of this run" in log


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_batch_of_one_image_is_refused_if_batchnorm_needs_two(config, tmp_path, compiled):
    cfg = config("model=dcgan", *TINY, "data.batch_size=1", "trainer.max_epochs=1", "test=false",
                 f"model.compile={str(compiled).lower()}")  # fmt: skip
    with pytest.raises(UserError, match="a BatchNorm of this network needs two images"):
        train(cfg, tmp_path)


def test_last_partial_batch_is_used_for_training(config, tmp_path):
    """100 images in batches of 32: every image is seen in every epoch, the last four together."""
    cfg = config(*ONE)
    torch.manual_seed(0)
    data = build.datamodule(cfg)
    model = build.model(cfg, data)
    seen = []
    model.discriminator.register_forward_hook(lambda module, args, out: seen.append(len(args[0])))
    fit(cfg, model, data, tmp_path)
    assert seen[::3] == [32, 32, 32, 4]  # real, fake, fake again for the generator


@pytest.mark.parametrize(("distribution", "variance"), [("uniform", 1 / 3), ("normal", 1)])
def test_the_noise_has_the_right_variance(config, distribution, variance):
    """rand - rand, seen in public code, is triangular with variance 1/6."""
    _, model, _, _ = one_batch(config, f"model.latent_distribution={distribution}")
    torch.manual_seed(0)
    z = model.latents(5000)
    assert z.shape == (5000, 96)
    assert z.var().item() == pytest.approx(variance, rel=0.01)
    assert z.mean().item() == pytest.approx(0, abs=0.01)
    if distribution == "uniform":
        assert -1 <= z.min() < -0.99
        assert 0.99 < z.max() <= 1
        assert (z.abs() < 0.5).float().mean().item() == pytest.approx(0.5, abs=0.01), (
            "flat, not triangular"
        )


def test_ema_averages_weights_and_batchnorm_buffers(config, tmp_path):
    cfg = config(
        *TINY,
        "model=dcgan",
        "data.limit=64",
        "data.val_size=0",
        "trainer.max_epochs=1",
        "test=false",
        "model.ema=0.5",
    )
    torch.manual_seed(0)
    data = build.datamodule(cfg)
    model = build.model(cfg, data)
    states = []
    update = model.ema.update

    def spy(net):
        states.append(copy.deepcopy(net.state_dict()))
        update(net)

    model.ema.update = spy
    fit(cfg, model, data, tmp_path)
    first, second = states
    average = model.ema.module.state_dict()
    for name in ("0.weight", "2.running_mean", "9.running_var"):
        assert torch.allclose(average[name], (first[name] + second[name]) / 2, atol=1e-6), name
        assert not torch.equal(average[name], second[name]), name
    assert model.generator_for_sampling is model.ema.module


def test_weights_are_clipped_after_the_discriminator_step(config, tmp_path):
    cfg, model, data, _ = one_batch(config, "model/loss=wgan", "model.loss.weight_clip=0.005")
    fit(cfg, model, data, tmp_path)
    assert max(p.abs().max().item() for p in model.discriminator.parameters()) == pytest.approx(
        0.005
    )
    assert max(p.abs().max().item() for p in model.generator.parameters()) > 0.02


def test_discriminator_can_have_its_own_learning_rate(config):
    _, model, _, _ = one_batch(config, "model.discriminator_lr=4e-4", "model.optimizer.lr=1e-4")
    d, g = model.configure_optimizers()
    assert (d.param_groups[0]["lr"], g.param_groups[0]["lr"]) == (4e-4, 1e-4)


def test_schedules_move_the_rates_with_progress(config, tmp_path):
    """linear from 0 to 0 over 8 batches: the last batch is trained at 1/8 of the base rate."""
    cfg = config(*ONE, "model/schedule=linear", "trainer.max_epochs=2")
    train(cfg, tmp_path)
    groups = [
        s["param_groups"][0]
        for s in runs.load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["optimizer_states"]
    ]
    assert [group["lr"] for group in groups] == [pytest.approx(1e-3 / 8)] * 2


def test_sampling_does_not_change_mode_or_statistics(config):
    _, model, _, _ = one_batch(config, "model=dcgan", base=TINY)
    model.generator.train()
    before = copy.deepcopy(model.generator.state_dict())
    images = model.sample(7, torch.Generator().manual_seed(0))
    assert images.shape == (7, 1, 28, 28)
    assert 0 <= images.min() <= images.max() <= 1
    assert model.generator.training
    for name, value in model.generator.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(images, model.sample(7, torch.Generator().manual_seed(0)))


def test_interpolation_starts_and_ends_at_its_latents(config):
    _, model, _, _ = one_batch(config)
    noise = torch.Generator().manual_seed(0)
    lines = model.interpolate(3, 5, noise)
    noise = torch.Generator().manual_seed(0)
    start, end = model.latents(3, noise), model.latents(3, noise)
    assert lines.shape == (15, 1, 28, 28)
    assert torch.allclose(lines[::5], model.decode(start), atol=1e-6)
    assert torch.allclose(lines[4::5], model.decode(end), atol=1e-6)


GANS = [model for model in MODELS if class_of(model) == "src.models.gan.GAN"]


@pytest.mark.parametrize("model", GANS)
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 3), (64, 1)])
def test_every_model_takes_a_step_on_every_shape(config, tmp_path, model, size, channels):
    narrow = []
    if "base_channels" in config(f"model={model}").model.net.generator:
        narrow = [f"model.net.{net}.base_channels=8" for net in ("generator", "discriminator")]
    cfg = config(*TINY, f"model={model}", "data.limit=5", "data.batch_size=5", "data.val_size=0",
                 "trainer.max_epochs=1",
                 "model.n_critic=1", "test=false", f"data.size={size}",
                 f"data.channels={channels}", *narrow)  # fmt: skip
    before = {}

    def remember(model):
        before.update({name: value.clone() for name, value in model.named_parameters()})
        return model

    torch.manual_seed(0)
    data = build.datamodule(cfg)
    net = remember(build.model(cfg, data))
    fit(cfg, net, data, tmp_path)
    moved = [not torch.equal(value, before[name]) for name, value in net.named_parameters()]
    assert sum(moved) > len(moved) * 0.9  # a bias before a norm has no gradient
    assert all(value.isfinite().all() for value in net.state_dict().values())


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_connected_networks_take_the_norm_of_the_convolutional_ones(config, norm):
    cfg = config("model=wgan_gp", "model/net=fc", "data=digits", "data.size=24",
                 f"model.net.discriminator.norm={norm}")  # fmt: skip
    model = build.model(cfg, build.datamodule(cfg))
    norms = [type(layer).__name__ for layer in model.discriminator.modules()].count("LayerNorm")
    assert norms == (2 if norm == "layer" else 0)


@pytest.mark.parametrize(
    "setting", ["model.net.spectral_norm=true", "model.net.init=normal", "model.ema=0.99"]
)
def test_every_setting_takes_a_step(config, tmp_path, setting):
    cfg, model, data, _ = one_batch(config, setting)
    fit(cfg, model, data, tmp_path)
    assert model.sample(2, torch.Generator()).isfinite().all()
