"""CycleGAN: a training step against the formulas, pool, resume and pictures."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from src.core.randomness import generator
from src.engine import build
from src.engine.load import load_run
from src.models.cyclegan import CycleGAN, ImagePool
from src.train import train
from tests.conftest import TINY, WINTER_RUN, WINTER_SMALL, saved, weights_of
from tests.engine.interruptions import assert_same_run, interrupted_and_resumed


def test_training_step_equals_the_formulas(config, photos, tmp_path):
    """Zhu 2017, eq. 3 and section 5.2, with a separate call of each network for each domain.

    Finds these mistakes: half of the generators' objective, identity loss on the wrong domain,
    discriminators that learn from the generators' step.
    """
    cfg = config(
        *WINTER_RUN,
        f"data.root={photos}",
        "data.limit=8",
        "trainer.max_epochs=1",
        "model.lambda_identity=0.3",
        "model.lambda_cycle=7",
    )
    torch.manual_seed(0)
    data = build.datamodule(cfg)
    model = build.model(cfg, data)
    g, f, d_a, d_b = (copy.deepcopy(net) for net in (model.g, model.f, model.d_a, model.d_b))
    (rows,) = iter(data._loader(data.train, "train").sampler)
    a, b = (pixels.float() / 255 * 2 - 1 for pixels in data.train[rows])
    build.trainer(cfg, tmp_path).fit(model, datamodule=data)

    def l1(x, y):
        return (x - y).abs().mean()

    fake_b, fake_a = g(a), f(b)
    fooled = (d_b(fake_b) - 1).square().mean() + (d_a(fake_a) - 1).square().mean()
    cycle, identity = l1(f(fake_b), a) + l1(g(fake_a), b), l1(g(b), b) + l1(f(a), a)
    optimizer = torch.optim.Adam([*g.parameters(), *f.parameters()], 2e-4, betas=(0.5, 0.999))
    (fooled + 7 * cycle + 7 * 0.3 * identity).backward()
    optimizer.step()
    optimizer = torch.optim.Adam([*d_a.parameters(), *d_b.parameters()], 2e-4, betas=(0.5, 0.999))
    optimizer.zero_grad()
    for d, real, fake in (
        (d_a, a, fake_a),
        (d_b, b, fake_b),
    ):  # the pools are not full, so they return these fakes
        (0.5 * ((d(real) - 1).square().mean() + d(fake.detach()).square().mean())).backward()
    optimizer.step()
    for actual, by_hand in ((model.g, g), (model.f, f), (model.d_a, d_a), (model.d_b, d_b)):
        for (name, x), y in zip(actual.named_parameters(), by_hand.parameters(), strict=True):
            assert torch.allclose(x, y, atol=1e-5), name


def test_without_identity_loss_nets_see_one_domain(config, photos, tmp_path):
    cfg = config(
        *WINTER_RUN,
        f"data.root={photos}",
        "data.limit=8",
        "trainer.max_epochs=1",
        "model.lambda_identity=0",
    )
    model, seen = build.model(cfg), []
    model.g.register_forward_hook(lambda module, args, out: seen.append(len(args[0])))
    build.trainer(cfg, tmp_path).fit(model, datamodule=build.datamodule(cfg))
    assert seen[:2] == [8, 8]


def test_learning_rate_is_constant_then_falls_to_zero(config):
    schedule = build.model(config(*WINTER_SMALL, "data=winter", "data.root=x")).schedule
    assert [round(schedule(p), 9) for p in (0, 0.25, 0.5, 0.75, 0.9)] == [1, 1, 1, 0.5, 0.2]


def test_full_pool_returns_older_fakes_half_the_time():
    torch.manual_seed(0)
    pool, number = ImagePool(50, (1, 2, 2)), 0
    known: list[float] = []

    def fakes(n):
        nonlocal number
        number += n
        return torch.arange(number - n, number).float().view(n, 1, 1, 1).expand(n, 1, 2, 2)

    for n in (7, 16, 16, 11):
        batch = fakes(n)
        assert torch.equal(pool(batch), batch)
    assert pool.filled == 50
    old, swaps = 0, 0
    for _ in range(200):
        before = set(pool.images[:, 0, 0, 0].tolist())
        batch = fakes(16)
        out = pool(batch)
        values, given = out[:, 0, 0, 0].tolist(), batch[:, 0, 0, 0].tolist()
        after = set(pool.images[:, 0, 0, 0].tolist())
        for value, own in zip(values, given, strict=True):
            assert value == own or (value in before and value not in after and own in after)
        old += sum(value != own for value, own in zip(values, given, strict=True))
        swaps += 16
        known += values
        assert len(after) == 50
    assert old / swaps == pytest.approx(0.5, abs=0.03)
    assert len(set(known)) == len(known), "an old fake is returned once"


def test_empty_pool_passes_on_and_small_pool_swaps_each_image_once():
    assert torch.equal(ImagePool(0, (1, 2, 2))(torch.ones(3, 1, 2, 2)), torch.ones(3, 1, 2, 2))
    torch.manual_seed(0)
    returned = []
    for _ in range(20):
        pool = ImagePool(2, (1, 1, 1))
        pool(torch.zeros(2, 1, 1, 1))
        out = pool(torch.arange(1.0, 41).view(40, 1, 1, 1))
        returned.append(int((out == 0).sum()))
        assert (pool.images > 0).sum() == returned[-1]
    assert set(returned) == {0, 1, 2}


@pytest.mark.parametrize("cut", [1, 4, 7, 12])
def test_resume_at_any_batch_is_bit_exact(winter_run, photos, config, tmp_path, monkeypatch, cut):
    """Pools (full in the third batch), optimizers, orders and augmentation are restored."""
    cfg = config(*WINTER_RUN, f"data.root={photos}", "callbacks=default", "augment=flip")
    assert_same_run(winter_run, interrupted_and_resumed(CycleGAN, cfg, tmp_path, monkeypatch, cut))


def test_comparison_grid_holds_translations_and_reconstructions(winter_run, config):
    cfg, model, _ = load_run(winter_run)
    data = build.datamodule(cfg)
    a, b = data.val[torch.arange(4)]
    rows = model.compare(a.float() / 255, b.float() / 255, generator(0))
    assert rows.shape == (4, 6, 3, 16, 16)
    assert torch.equal(rows[:, 0], a.float() / 255)
    made = (model.g(rows[:, 0] * 2 - 1) + 1) / 2
    back = (model.f(made * 2 - 1) + 1) / 2
    assert torch.allclose(rows[:, 1], made, atol=1e-5)
    assert torch.allclose(rows[:, 2], back, atol=1e-5)
    assert torch.allclose(rows[:, 4], (model.f(rows[:, 3] * 2 - 1) + 1) / 2, atol=1e-5)
    names = [path.name for path in sorted((winter_run / "images").glob("comparisons*"))]
    assert names == ["comparisons.gif", *(f"comparisons_{n:08d}.png" for n in (1, 2, 4, 8, 12))]
    picture = np.asarray(Image.open(winter_run / "images" / "comparisons_00000012.png"))
    sheet = picture[-4 * (32 + 2) - 2 :]  # below the title and the headers: four rows
    shown = sheet[2 : 2 + 32, 2 : 2 + 32].reshape(16, 2, 16, 2, 3)[:, 0, :, 0]
    assert np.array_equal(shown, a[0].permute(1, 2, 0).numpy())


def test_color_maps_are_fitted_on_the_images_of_the_run(config, photos, monkeypatch):
    fitted = []
    monkeypatch.setattr("src.models.cyclegan.color_maps", lambda a, b: fitted.append((a, b)))
    cfg = config(*WINTER_RUN, f"data.root={photos}", "data.train_size=2")
    data = build.datamodule(cfg)
    model = build.model(cfg, data)
    model._trainer = SimpleNamespace(datamodule=data)
    model.setup("fit")
    assert [len(a) for a, _ in fitted] == [2, 2]


def test_psnr_is_the_mean_over_images(config, photos, tmp_path):
    """Against NumPy, also for untranslated images."""
    cfg = config(
        *WINTER_RUN,
        f"data.root={photos}",
        "test=true",
        "trainer.max_epochs=1",
        "data.eval_batch_size=3",
    )
    values = train(cfg, saved(cfg, tmp_path / "run"))
    _, model, _ = load_run(tmp_path / "run")
    a, b = (x.float().numpy() / 255 for x in build.datamodule(cfg).test[torch.arange(4)])

    def decibels(images, true):
        return float(
            np.mean(
                [-10 * np.log10(((x - y) ** 2).mean()) for x, y in zip(images, true, strict=True)]
            )
        )

    assert values["test/psnr_untranslated"] == pytest.approx(decibels(a, b), abs=1e-3)
    assert values["test/psnr_b"] == pytest.approx(
        decibels(model.translate(torch.tensor(a)).numpy(), b), abs=1e-3
    )
    assert values["test/psnr_a"] == pytest.approx(
        decibels(model.translate(torch.tensor(b), "a").numpy(), a), abs=1e-3
    )
    assert values["test/ssim_b"] <= 1


def test_step_noise_depends_on_the_batch_number(config, photos, tmp_path, monkeypatch):
    """`Reproducibility` seeds each batch, so the pools depend on the batch number only."""
    cfg = config(*WINTER_RUN, f"data.root={photos}", "model.pool_size=4")
    step, states = CycleGAN.training_step, []
    for draws in (0, 5):

        def disturbed(self, batch, batch_idx, draws=draws):
            outputs = step(self, batch, batch_idx)
            torch.rand(draws)
            return outputs

        monkeypatch.setattr(CycleGAN, "training_step", disturbed)
        train(cfg, saved(cfg, tmp_path / str(draws)))
        states.append(weights_of(tmp_path / str(draws)))
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.slow
def test_cyclegan_learns_winter_from_unpaired_images(config, tmp_path):
    """On smooth color fields, 8 epochs bring both translations much nearer to the truth."""
    noise = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for i in range(300):
            field = Image.fromarray(noise.integers(0, 256, (3, 3, 3), dtype=np.uint8)).resize(
                (16, 16), Image.Resampling.BICUBIC
            )
            field.save(tmp_path / "in" / name / f"{i}.png")
    cfg = config(*TINY, "model=cyclegan", "data=winter", f"data.root={tmp_path / 'in'}",
                 "data.limit=null", "data.size=16",
                 "model.generator.base_channels=8", "model.generator.n_blocks=1",
                 "model.generator.residual=true", "model.lambda_cycle=1",
                 "model.discriminator.base_channels=16",
                 "data.batch_size=4",
                 "model.optimizer.lr=1e-3", "trainer.max_epochs=8", "data.test_size=60",
                 "data.val_size=0")  # fmt: skip
    values = train(cfg, saved(cfg, tmp_path / "run"))
    assert values["test/psnr_b"] > values["test/psnr_untranslated"] + 4
    assert values["test/psnr_a"] > values["test/psnr_untranslated"] + 2
    assert values["test/ssim_b"] > 0.7
