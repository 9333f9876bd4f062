"""Quality metrics against torchmetrics, scikit-learn and NumPy."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import nn

from src.config.checks import check
from src.config.compose import compose
from src.core.pixels import to_uint8
from src.core.randomness import generator
from src.data.images import ImageSet
from src.engine import build
from src.metrics import features, fid
from src.metrics.fid import frechet_distance, kernel_distance, neighbor_metrics
from src.metrics.quality import quality, too_few


@pytest.fixture(scope="module")
def clouds():
    """Two overlapping sets of 400 points in 8 dimensions, with different spread."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(8, 8))
    return tuple(
        torch.from_numpy(x)
        for x in (rng.normal(size=(400, 8)) @ mix, rng.normal(0.5, 1.3, size=(400, 8)) @ mix)
    )


def test_frechet_distance_equals_torchmetrics(clouds):
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Same(nn.Module):
        """Features are the 'images' themselves."""

        num_features = 8

        def forward(self, x):
            return x.flatten(1)

    metric = FrechetInceptionDistance(feature=Same(), input_img_size=(1, 1, 8)).set_dtype(
        torch.float64
    )
    for cloud, is_real in zip(clouds, (True, False), strict=True):
        metric.update(cloud.view(-1, 1, 1, 8), real=is_real)
    assert frechet_distance(*clouds) == pytest.approx(float(metric.compute()), rel=1e-6)


def test_frechet_distance_of_known_gaussians():
    """In one dimension it is (mu1 - mu2)^2 + (sigma1 - sigma2)^2."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=10_000), rng.normal(size=10_000)
    a, b = (a - a.mean()) / a.std(ddof=1), 3 + 2 * (b - b.mean()) / b.std(ddof=1)
    value = frechet_distance(torch.from_numpy(a[:, None]), torch.from_numpy(b[:, None]))
    assert value == pytest.approx(3**2 + (2 - 1) ** 2, rel=1e-9)


def test_frechet_distance_to_itself_is_zero_for_singular_covariance():
    few = torch.randn(5, 20, generator=generator(0))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-5)


def test_kernel_distance_equals_torchmetrics(clouds):
    from torchmetrics.image.kid import poly_mmd

    expected = poly_mmd(*clouds, degree=3, gamma=1 / 8, coef=1.0)
    assert kernel_distance(*clouds) == pytest.approx(float(expected), rel=1e-9)


def test_kernel_distance_is_unbiased():
    """Its mean over many draws from one distribution is 0."""
    draws = [
        kernel_distance(*torch.randn(2, 30, 4, generator=generator(i), dtype=torch.float64))
        for i in range(400)
    ]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(len(draws))
    assert min(draws) < 0


def test_neighbor_metrics_equal_scikit_learn(clouds):
    real, fake = (cloud.numpy() for cloud in clouds)
    k = 3
    radius = {
        name: NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x)[0][:, -1]
        for name, x in (("r", real), ("f", fake))
    }
    distance = np.linalg.norm(real[:, None] - fake[None], axis=2)
    inside = distance <= radius["r"][:, None]
    expected = {
        "precision": inside.any(0).mean(),
        "recall": (distance <= radius["f"][None]).any(1).mean(),
        "density": inside.sum(0).mean() / k,
        "coverage": inside.any(1).mean(),
    }
    measured = neighbor_metrics(*clouds, k=k)
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, abs=1e-6), name


def test_neighbor_metrics_of_a_collapsed_generator():
    """All samples are one real point: precision is high, coverage is nearly 0."""
    real = torch.randn(200, 4, generator=generator(0))
    measured = neighbor_metrics(
        real, real[:1].expand(200, -1) + 1e-6 * torch.randn(200, 4, generator=generator(1))
    )
    assert measured["precision"] == 1
    assert measured["coverage"] < 0.2
    assert measured["recall"] < 0.05


@pytest.fixture(scope="module")
def digits():

    cfg = compose("train", ["model=gan", "data.size=16", "data.val_size=100", "data.test_size=300"])
    check(cfg)
    return build.datamodule(cfg)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def net(digits, cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "STEPS", 100)
        return features.feature_net(digits.train, 10, "digits", cache)


def test_quality_ranks_real_above_noisy_above_noise(net, digits):
    real, train = digits.test, digits.train.images[:300]
    shape = real.images.shape
    noise = (torch.rand(shape, generator=generator(0)) * 255).byte()
    noisy = (
        (real.images.int() + (torch.randn(shape, generator=generator(1)) * 40).int())
        .clamp(0, 255)
        .byte()
    )
    cards = [
        quality(samples, real, train, net)
        for samples in (digits.train.images[300:600], noisy, noise)
    ]
    assert cards[0]["fid_own"] < cards[1]["fid_own"] < cards[2]["fid_own"]
    assert cards[0]["fid_own_floor"] == cards[2]["fid_own_floor"] < cards[1]["fid_own"]
    assert cards[0]["coverage"] > cards[2]["coverage"]
    shares = [cards[0][f"class_{label}"] for label in range(10)]
    assert sum(shares) == pytest.approx(1)
    assert cards[0]["least_class"] == min(shares) > 0.04


def test_dropped_class_lowers_least_class(net, digits: ImageSet):
    without = digits.train.images[digits.train.labels != 4][:300]
    card = quality(without, digits.test, digits.train.images[:300], net)
    assert card["class_4"] == card["least_class"] < 0.02


def test_conditional_samples_get_asked_acc(net, digits):
    real, train, labels = (
        digits.test.subset(torch.arange(100)),
        digits.train.images[:100],
        digits.train.labels[300:400],
    )
    samples = digits.train.images[300:400]
    _, probabilities = net.describe(samples)
    expected = np.mean(probabilities.numpy().argmax(1) == labels.numpy())
    assert quality(samples, real, train, net, labels)["asked_acc"] == pytest.approx(expected)
    assert expected > 0.9
    assert quality(samples, real, train, net, (labels + 1) % 10)["asked_acc"] < 0.1
    assert "asked_acc" not in quality(samples, real, train, net)


def test_few_images_get_only_the_metrics_that_need_no_more(net, digits):
    sets = {"fid_own", "kid_own"}, {"precision", "recall", "density", "coverage"}
    for n, measured, left_out in ((1, 0, 2), (2, 1, 1), (5, 1, 1), (6, 2, 0)):
        some = digits.train.images[:n]
        card = quality(some, digits.test.subset(torch.arange(n)), some, net)
        assert {"confidence", "least_class", "features_acc"} <= set(card)
        for k, names in enumerate(sets):
            assert all((name in card) == (k < measured) for name in names), n
        assert len(too_few(n)) == left_out
        assert not any(np.isnan(value) for value in card.values())


def test_metrics_do_not_depend_on_the_chunk_size(clouds, monkeypatch):
    before = kernel_distance(*clouds), neighbor_metrics(*clouds)
    monkeypatch.setattr(fid, "ROWS", 7)
    assert kernel_distance(*clouds) == pytest.approx(before[0], rel=1e-9)
    assert neighbor_metrics(*clouds) == before[1]


def test_to_uint8_rounds_and_clamps():
    assert to_uint8(torch.tensor([-0.2, 0.0, 0.5, 0.999, 1.3])).tolist() == [0, 0, 128, 255, 255]
