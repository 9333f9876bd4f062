"""Color maps against NumPy and SciPy."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from src.engine import build
from src.metrics.color import color_maps, color_moments, histogram_tables, transport_matrix
from src.train import train
from tests.conftest import WINTER_RUN, saved


@pytest.fixture(scope="module")
def domains():
    """Two sets of unequal size, warm and cold images, (N, 3, 6, 5) uint8."""
    rng = np.random.default_rng(0)
    mix = np.array([[40, 10, 0], [5, 30, 10], [20, 5, 25]])
    sets = []
    for n, center, turn in ((1500, (150, 120, 90), mix), (1200, (100, 120, 160), 0.6 * mix.T)):
        noise = rng.normal(size=(n, 6, 5, 3)) @ turn.T + center
        sets.append(noise.clip(0, 255).round().astype(np.uint8).transpose(0, 3, 1, 2))
    return sets


def pixels(images):
    return images.transpose(1, 0, 2, 3).reshape(3, -1).astype(float) / 255


def test_color_moments_equal_numpy(domains):
    mean, covariance = color_moments(torch.from_numpy(domains[0]))
    assert np.allclose(mean, pixels(domains[0]).mean(1), atol=1e-12)
    assert np.allclose(covariance, np.cov(pixels(domains[0]), bias=True), atol=1e-12)


def test_transport_matrix_equals_scipy_and_maps_the_covariance(domains):
    s, t = (np.cov(pixels(images), bias=True) for images in domains)
    actual = transport_matrix(torch.from_numpy(s), torch.from_numpy(t)).numpy()
    root = sqrtm(s).real
    expected = np.linalg.inv(root) @ sqrtm(root @ t @ root).real @ np.linalg.inv(root)
    assert np.allclose(actual, expected, atol=1e-8)
    assert np.allclose(actual @ s @ actual.T, t, atol=1e-12)
    gray = np.ones((3, 3)) * 0.04  # the covariance of images without color is singular
    actual = transport_matrix(torch.from_numpy(gray), torch.from_numpy(0.25 * gray)).numpy()
    assert np.allclose(actual @ gray @ actual.T, 0.25 * gray, atol=1e-12)


def test_histogram_matching_equals_sorting(domains):
    """For sets of equal size, the k-th smallest value maps to the k-th smallest, up to ties."""
    a, b = (torch.from_numpy(images[:1000]) for images in domains)
    tables = (histogram_tables(a, b) * 255).round().int().numpy()
    for c in range(3):
        mine, reference = (np.sort(images[:1000, c].ravel()) for images in domains)
        last = (
            np.searchsorted(mine, mine, side="right") - 1
        )  # for equal values, the rank of the last one
        assert np.array_equal(tables[c][mine], reference[last])
    assert np.array_equal((histogram_tables(a, a) * 255)[0][a[:, 0].long()].numpy(), a[:, 0])


def test_color_maps_equal_numpy_also_under_autocast(domains):
    a, b = (torch.from_numpy(images) for images in domains)
    maps = color_maps(a, b)
    assert list(maps) == ["mean_std", "histogram", "transport"]
    x, y = (pixels(images) for images in domains)
    images = a[:20].float() / 255
    with torch.autocast("cpu", torch.bfloat16):
        made = {name: change(images) for name, change in maps.items()}
    flat = images.double().permute(1, 0, 2, 3).reshape(3, -1).numpy()
    mean, new = x.mean(1, keepdims=True), y.mean(1, keepdims=True)
    turn = transport_matrix(*(torch.from_numpy(np.cov(z, bias=True)) for z in (x, y))).numpy()
    expected = {
        "mean_std": (flat - mean) / x.std(1, keepdims=True) * y.std(1, keepdims=True) + new,
        "transport": turn @ (flat - mean) + new,
    }
    for name, values in expected.items():
        actual = made[name].permute(1, 0, 2, 3).reshape(3, -1).numpy()
        assert made[name].dtype is torch.float32
        assert np.abs(actual - values.clip(0, 1)).max() < 1e-6, name
    table = histogram_tables(a, b).numpy()
    assert np.allclose(made["histogram"][:, 1], table[1][domains[0][:20, 1]], atol=1e-7)


def test_constant_channel_is_only_shifted():
    for level in range(0, 256, 15):  # rounding makes the variance of some negative
        a, b = (torch.full((4, 3, 2, 2), value, dtype=torch.uint8) for value in (51, level))
        for name, change in color_maps(a, b).items():
            assert torch.allclose(change(a / 255), torch.tensor(level / 255), atol=1e-6), name


def test_cyclegan_logs_color_maps_as_baseline(config, photos, tmp_path):
    cfg = config(*WINTER_RUN, f"data.root={photos}", "test=true", "trainer.max_epochs=1")
    values = train(cfg, saved(cfg, tmp_path / "run"))
    data = build.datamodule(cfg)
    a, b = (images.float() / 255 for images in data.test[torch.arange(4)])
    domains = {"a": data.train.a.images, "b": data.train.b.images}
    for to, other, image, true in (("b", "a", a, b), ("a", "b", b, a)):
        for name, change in color_maps(domains[other], domains[to]).items():
            errors = (change(image) - true).double().square().mean((1, 2, 3))
            expected = float((-10 * errors.log10()).mean())
            assert values[f"test/psnr_{to}_{name}"] == pytest.approx(expected, abs=1e-4)
            assert values[f"val/ssim_{to}_{name}"] <= 1
