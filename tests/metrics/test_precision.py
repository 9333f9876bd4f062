"""Metrics are computed in float32, over the whole set, and weighted by images."""

import copy

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from src.callbacks.quality import SampleQuality
from src.engine import build
from src.engine.load import load_run
from src.metrics import features
from src.metrics.precision import float32
from src.train import train
from tests.conftest import TINY, saved
from tests.metrics.families import BF16, small

pytestmark = pytest.mark.usefixtures("few_steps")


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
    assert before[0], "otherwise this test would prove nothing"
