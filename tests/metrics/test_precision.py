"""Metrics are computed in float32, over the whole set, and weighted by images."""

import copy

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scipy.signal import convolve2d
from scipy.special import log_softmax

from src.callbacks.quality import SampleQuality
from src.config.compose import CONF, groups
from src.engine import build
from src.engine.load import load_run
from src.evaluate import evaluate
from src.metrics import features
from src.metrics.precision import float32
from src.models.cyclegan import psnr, ssim
from src.train import train
from tests.conftest import TINY, call, saved
from tests.metrics.families import BF16, FAMILIES, small

pytestmark = pytest.mark.usefixtures("few_steps")


def families():
    """Return the classes that conf/model names."""
    nodes = [OmegaConf.load(CONF / "model" / f"{choice}.yaml") for choice in groups()["model"]]
    return {str(node["_target_"]) for node in nodes if "_target_" in node} | {"src.models.gan.GAN"}


def test_every_family_is_covered():
    assert families() <= set(FAMILIES)


@pytest.mark.parametrize("family", [name for name, words in FAMILIES.items() if words])
def test_metrics_are_float32_whatever_the_training_precision(config, photos, tmp_path, family):
    """A run trained in bf16 has the same metrics, to the bit, from Trainers of either precision."""
    cfg = small(config, photos, family, BF16, "seed=3")
    values = train(cfg, saved(cfg, tmp_path / "run"))
    figures = {name: value for name, value in values.items() if name.startswith("test")}
    del figures["test_seconds"]
    assert any(name.startswith("test/") for name in figures)
    again = call("evaluate", evaluate, f"run={tmp_path / 'run'}")
    assert {name: again[name] for name in figures} == figures, "its own test, its own seed"
    stages = ["test"] if "data=reviews" in FAMILIES[family] else ["test", "validate"]
    for stage in stages:
        _, model, _ = load_run(tmp_path / "run")
        measured = []
        for precision in ("32-true", "bf16-mixed"):
            cfg.trainer.precision = precision
            trainer = build.trainer(cfg, tmp_path / "other", keep=False)
            getattr(trainer, stage)(model, datamodule=build.datamodule(cfg), verbose=False)
            measured.append(
                {name: float(value) for name, value in trainer.callback_metrics.items()}
            )
        assert measured[0] == measured[1]
        assert measured[0]
        if stage == "test":
            assert all(figures[name] == value for name, value in measured[0].items())


def structural_similarity(x, y):
    """Compute Wang 2004, eq. 13, in float64: 11 x 11 Gaussian window, sigma 1.5, reflected
    borders."""
    line = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2

    def blurred(image):
        return convolve2d(np.pad(image, 5, mode="reflect"), window, mode="valid")

    maps = []
    for a, b in zip(x.astype(np.float64), y.astype(np.float64), strict=True):
        mean_a, mean_b = blurred(a), blurred(b)
        var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
        both = blurred(a * b) - mean_a * mean_b
        c1, c2 = 0.01**2, 0.03**2
        maps.append((2 * mean_a * mean_b + c1) * (2 * both + c2)
                    / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))  # fmt: skip
    return np.mean(maps)


def decibels(x, y):
    return 10 * np.log10(1 / np.square(x.astype(np.float64) - y.astype(np.float64)).mean())


def test_psnr_and_ssim_of_equal_images_under_autocast():
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.7
    y = (x + 0.05 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert ssim(x, x).item() == pytest.approx(1, abs=1e-12)
        pairs = list(zip(x.numpy(), y.numpy(), strict=True))
        assert ssim(x, y).item() == pytest.approx(
            np.mean([structural_similarity(*p) for p in pairs]), rel=1e-9
        )
        assert psnr(x, y).item() == pytest.approx(np.mean([decibels(*p) for p in pairs]), rel=1e-6)


def test_psnr_and_ssim_of_a_bf16_run_equal_scipy(config, photos, tmp_path):
    cfg = small(config, photos, "src.models.cyclegan.CycleGAN", BF16)
    values = train(cfg, saved(cfg, tmp_path / "run"))
    part = build.datamodule(cfg).test
    a, b = (side.images.numpy() / 255 for side in (part.a, part.b))
    _, model, _ = load_run(tmp_path / "run")
    with torch.no_grad():
        made = model.translate(torch.from_numpy(a).float(), "b").numpy()
    for name, x in (("untranslated", a), ("b", made)):
        pairs = list(zip(x, b, strict=True))
        expected = np.mean([structural_similarity(*pair) for pair in pairs])
        assert values[f"test/ssim_{name}"] == pytest.approx(expected, abs=1e-5), name
        expected = np.mean([decibels(*pair) for pair in pairs])
        assert values[f"test/psnr_{name}"] == pytest.approx(expected, rel=1e-5), name
    assert values["test/n"] == 9, "batches of 4, 4 and 1 count by their images"


def test_loss_and_accuracy_of_a_bf16_run_equal_numpy(config, tmp_path):
    cfg = config(*TINY, "model=fc", "data.eval_batch_size=32", BF16, "trainer.max_epochs=1")
    values = train(cfg, saved(cfg, tmp_path / "run"))
    data, (_, model, _) = build.datamodule(cfg), load_run(tmp_path / "run")
    model = model.double()
    with torch.no_grad():
        logits = model(data.test.images.double() / 255).numpy()
    labels = data.test.labels.numpy()
    losses = -log_softmax(logits, 1)[np.arange(len(labels)), labels]
    assert values["test/loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert values["test/acc"] == pytest.approx(np.mean(logits.argmax(1) == labels))
    five = np.argsort(-logits, 1)[:, :5]
    assert values["test/top5"] == pytest.approx(np.mean((five == labels[:, None]).any(1)))
    assert values["test/n"] == len(labels) == 100


def test_gan_metrics_of_a_bf16_run_equal_numpy_and_torchmetrics(config, tmp_path):
    from sklearn.neighbors import NearestNeighbors
    from torchmetrics.image.kid import poly_mmd

    from src.core.randomness import generator

    cfg = small(config, None, "src.models.gan.GAN", BF16, "callbacks.quality.n=100")
    values = train(cfg, saved(cfg, tmp_path / "run"))
    data, (_, model, _) = build.datamodule(cfg), load_run(tmp_path / "run")
    scores = copy.deepcopy(model.discriminator).double()(data.test.images.double() / 255 * 2 - 1)
    assert values["test/d_real"] == pytest.approx(scores.mean().item(), rel=1e-4)
    net = features.feature_net(
        data.full_training_set(), 10, data.name, SampleQuality(1, None, 0, cfg.cache).cache
    )
    samples = (model.sample(100, generator(cfg.seed, "quality")).clamp(0, 1) * 255).round()
    net = net.double()
    with torch.no_grad():
        real, fake = (net.features(x.double() / 255) for x in (data.test.images, samples))
    mean, cov = zip(
        *((x.mean(0).numpy(), np.cov(x.numpy(), rowvar=False)) for x in (real, fake)), strict=True
    )
    roots = np.sqrt(np.linalg.eigvals(cov[0] @ cov[1]).real.clip(0)).sum()
    fid = np.square(mean[0] - mean[1]).sum() + np.trace(cov[0]) + np.trace(cov[1]) - 2 * roots
    assert values["test/fid_own"] == pytest.approx(fid, rel=1e-3)
    kid = float(poly_mmd(real, fake, degree=3, gamma=1 / 64, coef=1.0))
    assert values["test/kid_own"] == pytest.approx(kid, rel=1e-3)
    radius = NearestNeighbors(n_neighbors=6).fit(real.numpy()).kneighbors(real.numpy())[0][:, -1]
    inside = torch.cdist(real, fake).numpy() <= radius[:, None]
    assert values["test/precision"] == pytest.approx(inside.any(0).mean(), abs=0.011)
    assert values["test/coverage"] == pytest.approx(inside.any(1).mean(), abs=0.011)
    assert values["test/samples"] == 100
    assert values["features"] == f"digits {features.FeatureNet.digest(net.float())}"


def test_float32_restores_tf32_settings():
    with torch.autocast("cpu", torch.bfloat16):
        with float32(torch.device("cpu")):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_float32_disables_tf32_on_a_gpu():
    kinds = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [kind.allow_tf32 for kind in kinds]
    with float32(torch.device("cuda")):
        assert [kind.allow_tf32 for kind in kinds] == [False, False]
    assert [kind.allow_tf32 for kind in kinds] == before
    assert before[0], "or this test shows nothing"
