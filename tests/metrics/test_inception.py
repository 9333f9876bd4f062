"""FID, KID and Inception Score on Inception features, with random weights instead of a download."""

import urllib.request

import numpy as np
import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import (
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)

from src.evaluate import evaluate
from src.metrics import features, inception
from src.train import train
from tests.conftest import TINY, TINY_NETS, call, saved
from tests.metrics.families import CARD

GAN = (*TINY, *TINY_NETS, *CARD, "data.limit=30", "data.val_size=10", "trainer.max_epochs=1",
       "trainer.precision=bf16-mixed", "callbacks.quality.n=20")  # fmt: skip
NAME = URL_INCEPTION_V3.rpartition("/")[2]


@pytest.fixture(scope="module")
def state():
    """Random weights of a network, scaled so that its features have a magnitude of about 1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        patch.setattr(
            "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url",
            lambda *_, **__: {},
        )
        torch.manual_seed(0)
        net = FeatureExtractorInceptionV3("random", ["2048"])
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty folder for torch hub, and no network."""

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setattr("torch.hub.urlopen", offline)
    monkeypatch.setattr(features, "STEPS", 12)
    (tmp_path / "hub" / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "hub" / "checkpoints"


@pytest.mark.slow
def test_inception_metrics_equal_numpy(state, hub):
    torch.save(state, hub / NAME)
    noise = torch.Generator().manual_seed(0)
    fake, real = (
        torch.randint(0, 256, (14, 1, 8, 8), generator=noise, dtype=torch.uint8) for _ in range(2)
    )
    real = real // 2
    values = inception.inception_quality(
        fake, real, inception.inception_weights(), torch.device("cpu")
    )
    net = FeatureExtractorInceptionV3(
        "random", ["2048", "logits_unbiased"], feature_extractor_weights_path=hub / NAME
    )
    with torch.no_grad():
        (x, logits), (y, _) = (net(images.expand(-1, 3, -1, -1)) for images in (fake, real))
    x, y, logits = (part.double().numpy() for part in (x, y, logits))
    centred = [part - part.mean(0) for part in (x, y)]
    roots = np.linalg.svd(
        centred[0] @ centred[1].T, compute_uv=False
    ).sum()  # tr (S_x S_y)^(1/2), times n - 1
    traces = sum(np.square(part).sum() for part in centred)
    fid = np.square(x.mean(0) - y.mean(0)).sum() + (traces - 2 * roots) / (len(x) - 1)
    assert values["fid_inception"] == pytest.approx(fid, rel=1e-2)

    def kernel(a, b):
        return (a @ b.T / 2048 + 1) ** 3

    n = len(x)
    within = [(kernel(a, a).sum() - np.trace(kernel(a, a))) / (n * (n - 1)) for a in (x, y)]
    kid = sum(within) - 2 * kernel(x, y).mean()
    assert values["kid_inception"] == pytest.approx(kid, rel=1e-4), "each subset is the whole set"
    scores = []
    order = np.random.RandomState(2020).permutation(n)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares = (shares / shares.sum(1, keepdims=True))[order]
    for i in range(10):
        p = shares[i * n // 10 : (i + 1) * n // 10]
        scores.append(np.exp((p * np.log(p / p.mean(0))).sum(1).mean()))
    assert values["is_inception"] == pytest.approx(np.mean(scores), rel=1e-5)


@pytest.mark.slow
def test_run_and_evaluate_give_the_same_inception_metrics(config, state, hub, tmp_path):
    torch.save(state, hub / NAME)
    cfg = config(*GAN, "callbacks.quality.inception=true")
    values = train(cfg, saved(cfg, tmp_path / "run"))
    names = ("test/fid_inception", "test/kid_inception", "test/is_inception")
    assert values["test/inception_samples"] == 20
    assert not any(name.startswith("val/") and "inception" in name for name in values)
    again = call("evaluate", evaluate, f"run={tmp_path / 'run'}")
    assert [again[name] for name in names] == [values[name] for name in names]
    without = call("evaluate", evaluate, f"run={tmp_path / 'run'}", "inception=false")
    assert not any(name in without for name in names)


@pytest.mark.parametrize("what", ["absent", "damaged"])
def test_missing_inception_weights_are_logged(config, hub, tmp_path, what):
    if what == "damaged":
        (hub / NAME).write_bytes(b"no weights")
    cfg = config(*GAN, "callbacks.quality.inception=true")
    values = train(cfg, saved(cfg, tmp_path / "run"))
    assert "test/fid_own" in values
    assert "test/fid_inception" not in values


def test_broken_inception_weights_are_explained(hub):
    with pytest.raises(inception.UserError, match=r"cannot be fetched into .*\(no network\)$"):
        inception.inception_weights()
    (hub / NAME).write_bytes(b"no weights")
    with pytest.raises(inception.UserError, match="is damaged: delete it to fetch it again"):
        inception.inception_weights()
