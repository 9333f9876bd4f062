"""The conditional GAN: a training step, the penalty, the classes of samples, and images for a
folder."""

import copy

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from src.augment import augment
from src.core.errors import UserError
from src.core.randomness import CounterRNG, derive_seed
from src.engine import build
from src.engine.makers import by_models
from src.losses import gradient_penalty
from src.models.gan import GAN
from src.train import train
from tests.conftest import TINY, call, saved
from tests.data.test_folder import write_folder
from tests.models.test_gan import fit, one_batch

CONDITIONAL = (
    *TINY,
    "model=cdcgan",
    "data=digits",
    "data.val_size=0",
    "trainer.max_epochs=1",
    "test=false",
    "model.ema=0",
)


def test_conditional_training_step_equals_the_formulas(config, tmp_path):
    """Mirza 2014: both networks see the labels, one-hot, appended to z and as planes after the
    channels."""
    cfg, model, data, real = one_batch(config, base=CONDITIONAL)
    order = next(iter(data._loader(data.train, "train").sampler))
    labels = data.train.labels[order]
    g, d = copy.deepcopy(model.generator), copy.deepcopy(model.discriminator)
    fit(cfg, model, data, tmp_path)

    torch.manual_seed(derive_seed(cfg.seed, "train", 0, 0, 0))
    z = torch.rand(32, 96) * 2 - 1
    hot = torch.eye(10)[labels]
    planes = torch.stack(
        [torch.full((28, 28), float(k == label)) for label in labels for k in range(10)]
    ).view(32, 10, 28, 28)
    d_optimizer = torch.optim.Adam(d.parameters(), 2e-4, betas=(0.5, 0.999))
    g_optimizer = torch.optim.Adam(g.parameters(), 1e-3, betas=(0.5, 0.999))
    fake = g(torch.cat([z, hot], 1))
    one, zero = torch.ones(32, 1), torch.zeros(32, 1)
    bce = F.binary_cross_entropy_with_logits
    (
        bce(d(torch.cat([real, planes], 1)), one)
        + bce(d(torch.cat([fake.detach(), planes], 1)), zero)
    ).backward()
    d_optimizer.step()
    g_optimizer.zero_grad()
    bce(d(torch.cat([fake, planes], 1)), one).backward()
    g_optimizer.step()
    for ours, by_hand in ((model.generator, g), (model.discriminator, d)):
        for (name, a), b in zip(ours.named_parameters(), by_hand.parameters(), strict=True):
            assert torch.allclose(a, b, atol=2e-5), name


@pytest.mark.parametrize("name", ["gan", "dcgan", "wgan_gp"])
def test_num_classes_makes_any_gan_conditional(config, name):
    base = (f"model={name}", "data=digits")
    plain, model = build.model(config(*base)), build.model(config(*base, "model.num_classes=10"))
    for labels in (torch.zeros(2, dtype=torch.long), torch.tensor([3, 9])):
        z = model.latents(2, torch.Generator().manual_seed(0), labels)
        images = model.generator(z)
        assert images.shape == (2, 1, 28, 28)
        assert model.discriminator_given(labels)(images).shape == (2, 1)
    first = [next(gan.generator.parameters()).shape for gan in (plain, model)]
    assert first[1][1] - first[0][1] == 10


def test_wrong_number_of_classes_is_reported_as_the_setting_of_the_model(config):
    cfg = config(*TINY, "model=gan", "model.num_classes=7", "data=digits")
    with pytest.raises(UserError, match=r"^model\.num_classes=7 does not fit data=digits"):
        build.datamodule(cfg)


def test_gradient_penalty_ignores_the_label_planes(config):
    model = build.model(config("model=cdcgan", "data=digits", "data.num_classes=10"))
    seen = []
    model.discriminator.forward = lambda x: seen.append(x) or x.sum((1, 2, 3)).unsqueeze(1)
    real, labels = torch.rand(4, 1, 28, 28), torch.tensor([0, 3, 3, 9])
    value = gradient_penalty(model.discriminator_given(labels), real, real, torch.rand(4, 1, 1, 1))
    assert seen[0].shape == (4, 11, 28, 28)
    assert value.item() == pytest.approx((28 - 1) ** 2), (
        "the gradient of a sum over 784 pixels has norm 28"
    )


def test_samples_have_the_requested_classes(config):
    model = build.model(config("model=cdcgan", "data=digits", "data.num_classes=10"))
    z = model.latents(30)
    assert z.shape == (30, 106)
    assert z[:, 96:].argmax(1).tolist() == [*range(10)] * 3, "the first samples contain all classes"
    given = model.latents(3, labels=torch.tensor([7, 0, 7]))[:, 96:]
    assert given.argmax(1).tolist() == [7, 0, 7]
    assert given.sum() == 3
    shares = torch.tensor([[0.25, 0.75] + [0.0] * 8])
    assert torch.equal(model.latents(1, labels=shares)[:, 96:], shares), (
        "labels of mixed images stay as they are"
    )
    noise = [torch.Generator().manual_seed(3) for _ in range(3)]
    one, same, other = (
        model.sample(2, g, torch.tensor([k, k])) for g, k in zip(noise, (4, 4, 5), strict=True)
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, other, atol=1e-3)


def test_conditional_run_adds_labeled_images_to_a_folder(config, tmp_path, monkeypatch):
    write_folder(tmp_path / "in", n=8)
    cfg = config(*CONDITIONAL, "data=folder", f"data.root={tmp_path / 'in'}",
                 "data.test_size=4",
                 "data.size=16", "model.net.generator.base_channels=4",
                 "model.net.discriminator.base_channels=4")  # fmt: skip
    train(cfg, saved(cfg, tmp_path / "run"))
    settings = (f"data.root={tmp_path / 'in'}", "data.test_size=4", "data.val_size=0", "factor=3",
                "data.limit=100", "augment=model")  # fmt: skip
    for out in ("out", "again"):
        call(
            "augment",
            augment,
            *settings,
            f"augment.run={tmp_path / 'run'}",
            f"out={tmp_path / out}",
        )
    data = build.datamodule(
        config(
            *TINY, "model=lenet", "data=folder", f"data.root={tmp_path / 'out'}", "data.val_size=0"
        )
    )
    assert len(data.train) == 36
    made = sorted((tmp_path / "out" / "train").rglob("*.[12].png"))
    assert len(made) == 24
    assert len({path.read_bytes() for path in made}) == 24, "each image has its own sample"
    assert all(
        path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "out")).read_bytes()
        for path in made
    )
    for other in ("data.test_size=3", "data.split_seed=1", "data.train_per_class=2"):
        with pytest.raises(
            UserError,
            match=f"was trained on other images, with {other.partition('=')[0]}=",
        ):
            call(
                "augment",
                augment,
                *settings,
                other,
                f"augment.run={tmp_path / 'run'}",
                f"out={tmp_path / 'third'}",
            )
    given = OmegaConf.create({"data": cfg.data, "factor": 3, "augment": {"which": "last"}})
    make = by_models([str(tmp_path / "run")], "b", data, given)
    asked = []
    monkeypatch.setattr(
        GAN,
        "latents",
        lambda self, n, generator, labels: asked.append(labels.tolist()) or torch.zeros(n, 98),
    )
    assert (
        len(
            list(
                make(
                    torch.zeros(1, 3, 16, 16),
                    1,
                    [CounterRNG(torch.tensor([0]), 0, copy) for copy in (1, 2)],
                )
            )
        )
        == 2
    )
    assert asked == [[1], [1]]
    (tmp_path / "in" / "cats").rename(tmp_path / "in" / "birds")
    with pytest.raises(UserError, match="has the classes cats, dogs, but the data has birds, dogs"):
        call(
            "augment",
            augment,
            *settings,
            f"augment.run={tmp_path / 'run'}",
            f"out={tmp_path / 'third'}",
        )
