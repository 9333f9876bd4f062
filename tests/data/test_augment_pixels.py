"""Augmentations of pixel values and mixing, against NumPy and torchvision."""

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms.v2 import functional as TF

from src.core.randomness import CounterRNG
from src.data.transforms import mixing, pixelwise
from src.data.transforms.augment import Augment
from tests.data.test_augment import DRAWS, IMAGES, done

LABELS = torch.arange(400) % 10


def test_noise_has_the_recorded_deviation():
    gray = torch.full((50, 3, 40, 40), 0.5)
    made, values = done(gray, CounterRNG(torch.arange(50), 0), noise=pixelwise.GaussianNoise(0.1))
    assert torch.allclose((made - gray).std((1, 2, 3)).double(), values["noise"]["std"], rtol=0.06)
    assert values["noise"]["std"].max() > 0.09
    made, values = done(gray, CounterRNG(torch.arange(50), 0), salt=pixelwise.SaltAndPepper(0.4))
    changed = (made != gray).double()
    assert torch.allclose(changed.mean((1, 2, 3)), values["salt"]["share"], atol=0.05)
    assert torch.equal(changed[:, 0], changed[:, 2])  # pixels, not values
    assert (made[changed.bool()] == 1).float().mean() == pytest.approx(0.5, abs=0.02)


def test_cutout_fills_a_box_with_the_mean_color():
    images = torch.rand(300, 3, 12, 16, generator=torch.Generator().manual_seed(2))
    made, values = done(images, CounterRNG(torch.arange(300), 0), cutout=pixelwise.Cutout(0.5))
    areas = []
    for i in range(300):
        x, y = float(values["cutout"]["x"][i]) * 16, float(values["cutout"]["y"][i]) * 12
        expected = images[i].numpy().copy()
        rows = [r for r in range(12) if abs(r + 0.5 - y) < 3]
        columns = [c for c in range(16) if abs(c + 0.5 - x) < 4]
        expected[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = (
            images[i].numpy().mean((1, 2))[:, None, None]
        )
        assert np.abs(made[i].numpy() - expected).max() < 1e-6
        areas.append(len(rows) * len(columns) / (12 * 16))
    assert max(areas) == pytest.approx(0.25, abs=0.05)
    assert min(areas) < 0.09  # a box in a corner is cut off at two edges


@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_and_contrast_equal_torchvision(channels):
    images = IMAGES[:, :channels]
    for transform, peer in (
        (pixelwise.Brightness(0.5), TF.adjust_brightness),
        (pixelwise.Contrast(0.5), TF.adjust_contrast),
    ):
        made, values = done(images, one=transform)
        factor = values["one"]["factor"]
        assert stats.kstest(factor.numpy(), "uniform", (0.5, 1)).pvalue > 0.01
        for i in range(10):
            assert torch.allclose(
                made[i], peer(images[i], float(factor[i])), atol=2e-4
            )  # torchvision's luma weight of red is 0.2989, not 0.299


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixup_follows_the_paper(alpha):
    many = CounterRNG(torch.arange(20000), 0)
    share = mixing.MixUp(alpha).sample(many, (1, 1))["share"].numpy()
    assert stats.kstest(share, stats.beta(alpha, alpha).cdf).pvalue > 0.01
    made, labels = Augment({"mixup": mixing.MixUp(alpha)})(IMAGES, LABELS, DRAWS, 10)
    assert torch.allclose(labels.sum(1), torch.ones(400))
    one_hot = torch.nn.functional.one_hot(LABELS, 10).float()
    both = torch.cat([IMAGES.flatten(1), one_hot], 1).numpy()
    mixture = torch.cat([made.flatten(1), labels], 1).numpy()
    others = set()
    for i in range(400):
        # find the partner: the image on the line through image i and its mixture
        line, seen = both - both[i], mixture[i] - both[i]
        along = (line @ seen) / np.maximum((line * line).sum(1), 1e-9)
        away = np.abs(along[:, None] * line - seen).max(1)
        away[i] = np.inf
        assert away.min() < 1e-5
        others.add(int(away.argmin()) if np.abs(seen).max() > 1e-3 else -1 - i)
    assert len(others) == 400  # no image is a partner twice


def test_cutmix_mixes_labels_by_box_area():
    images = IMAGES[:200] + torch.arange(200).view(
        -1, 1, 1, 1
    )  # the integer part of a value is the number of its image
    made, labels = Augment({"cutmix": mixing.CutMix(1.0)})(
        images, LABELS[:200], CounterRNG(torch.arange(200), 0), 10
    )
    areas = []
    for i in range(200):
        owner = made[i].floor().long()
        foreign = owner != i
        areas.append(foreign.float().mean().item())
        expected = torch.nn.functional.one_hot(owner[0].flatten() % 10, 10).float().mean(0)
        assert torch.allclose(labels[i], expected, atol=1e-6)
        assert torch.equal(
            made[i], torch.gather(images, 0, owner.unsqueeze(0))[0]
        )  # each pixel keeps its place
        rows, columns = foreign[0].any(1), foreign[0].any(0)
        assert torch.equal(foreign[0], rows.unsqueeze(1) & columns)  # a box
    assert 0.2 < np.mean(areas) < 0.5  # half of the image, minus the part that the edge cuts off
