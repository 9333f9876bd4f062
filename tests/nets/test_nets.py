"""Shapes, ranges and parameter counts of networks; initialization; spectral norm."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.nets import dcgan, fc
from src.nets.init import initialize, spectral_norm, whiten


def count(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("nets", [fc, dcgan], ids=["fc", "dcgan"])
@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("batch", [2, 5])
def test_gan_nets_have_the_right_shapes(nets, size, channels, batch):
    images = nets.generator(96, channels, size)(torch.rand(batch, 96))
    assert images.shape == (batch, channels, size, size)
    assert images.abs().max() <= 1
    discriminator = nets.discriminator(channels, size)
    assert discriminator(images).shape == (batch, 1)
    with torch.no_grad():
        list(discriminator.parameters())[-1].fill_(9)  # the last bias
    assert discriminator(images).mean().item() == pytest.approx(9, abs=2), "raw scores, no sigmoid"


def test_parameter_counts_by_hand():
    assert count(fc.generator(96, 1, 28)) == 97 * 1024 + 1025 * 1024 + 1025 * 784
    assert count(fc.discriminator(1, 28)) == 785 * 256 + 257 * 256 + 257
    infogan_g = (
        97 * 1024
        + 2 * 1024
        + 1025 * 6272
        + 2 * 6272
        + (128 * 64 * 16 + 64)
        + 2 * 64
        + (64 * 16 + 1)
    )
    assert count(dcgan.generator(96, 1, 28)) == infogan_g
    assert (
        count(dcgan.discriminator(1, 28))
        == (25 * 32 + 32) + (32 * 64 * 25 + 64) + 1025 * 1024 + 1025
    )
    # Radford's generator at 64 with width 64: 4x4 kernels between 100, 512, 256, 128, 64 and 3
    # channels
    convolutions = (
        sum(16 * a * b for a, b in [(100, 512), (512, 256), (256, 128), (128, 64), (64, 3)]) + 3
    )
    assert count(dcgan.generator(100, 3, 64)) == convolutions + 2 * (512 + 256 + 128 + 64)


def test_radford_nets_refuse_other_sizes():
    with pytest.raises(ValueError, match="power of two"):
        dcgan.generator(96, 1, 40)


def test_norms_are_placed_as_in_the_papers():
    """BatchNorm has PyTorch's eps and momentum; some public code passes the momentum 0.8 as eps."""
    norms = [
        layer
        for layer in dcgan.generator(96, 1, 28)
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
    ]
    assert [type(layer) for layer in norms] == [nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d]
    assert {(layer.eps, layer.momentum) for layer in norms} == {(1e-5, 0.1)}
    critic = dcgan.discriminator(3, 64, norm="layer")
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in critic)
    assert sum(isinstance(layer, nn.GroupNorm) and layer.num_groups == 1 for layer in critic) == 3


def test_critic_with_layer_norm_scores_images_independently():
    critic = dcgan.discriminator(1, 32, norm="layer")
    images = torch.rand(4, 1, 32, 32)
    assert torch.allclose(critic(images)[:1], critic(images[:1]), atol=1e-5)


@pytest.mark.parametrize(
    ("how", "spread"),
    [("kaiming", math.sqrt(2 / 400)), ("xavier", math.sqrt(2 / 700)), ("normal", 0.02)],
)
def test_initialize_by_name(how, spread):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(400, 300), nn.BatchNorm1d(300))
    initialize(net, how)
    assert net[0].weight.std().item() == pytest.approx(spread, rel=0.02)
    assert net[0].bias.abs().max() == 0
    assert net[1].weight.min() == 1


def test_spectral_norm_bounds_the_largest_singular_value():
    torch.manual_seed(0)
    net = spectral_norm(nn.Sequential(nn.Linear(30, 20)))
    for _ in range(200):
        net(torch.rand(2, 30))
    net.eval()
    assert torch.linalg.matrix_norm(net[0].weight, 2).item() == pytest.approx(1, abs=1e-3)


def test_dirac_keeps_the_input_and_other_filters():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1))
    before = [layer.weight.clone() for layer in net]
    initialize(net, "dirac")
    x = torch.rand(2, 8, 5, 5)
    for layer, n_in, were in zip(net, (3, 4), before, strict=True):
        handed_on = F.conv2d(x[:, : layer.in_channels], layer.weight, padding=1)
        assert torch.equal(handed_on[:, :n_in], x[:, :n_in])
        assert torch.equal(layer.weight[3:], were[3:]) or n_in == 4


def test_whitened_responses_are_uncorrelated_with_variance_one():
    images = F.avg_pool2d(
        torch.randn(200, 3, 18, 18, generator=torch.Generator().manual_seed(0)), 3, 1
    )  # similar neighbors
    layer = nn.Conv2d(3, 64, 3)
    rest = layer.weight[54:].clone()
    whiten(layer, images)
    seen = F.conv2d(images, layer.weight[:27]).transpose(0, 1).flatten(1).detach().numpy()
    moments = seen @ seen.T / seen.shape[1]
    assert np.abs(moments - np.diag(moments.diagonal())).max() < 1e-2
    assert 0.95 < moments.diagonal().min() <= moments.diagonal().max() < 1.001
    strength = [1 / np.linalg.norm(weight) for weight in layer.weight[:27].detach().numpy()]
    assert strength == sorted(strength, reverse=True)  # the strongest first
    assert torch.equal(layer.weight[:27], -layer.weight[27:54])
    assert torch.equal(layer.weight[54:], rest)
    few = nn.Conv2d(3, 6, 3)
    whiten(few, images)
    assert torch.allclose(few.weight[:3], layer.weight[:3], atol=1e-5)


def test_whiten_in_parts_equals_whiten_at_once(monkeypatch):
    """Unfolding all images at once would take hundreds of GB at 224 pixels."""
    images, unfold, parts = torch.rand(7, 3, 512, 512), F.unfold, []
    monkeypatch.setattr(F, "unfold", lambda x, kernel: parts.append(len(x)) or unfold(x, kernel))
    layer, small = nn.Conv2d(3, 8, 3), images[:, :, :64, :64]
    whiten(layer, images)
    assert parts == [1] * 7
    whiten(layer, small)
    patches = unfold(small.double(), 3).transpose(1, 2).flatten(0, 1)
    values, vectors = np.linalg.eigh((patches.T @ patches / len(patches)).numpy())
    expected = (vectors / np.sqrt(values + 1e-4)).T[::-1][:4].reshape(4, 3, 3, 3)
    assert np.allclose(
        np.abs(layer.weight[:4].detach().numpy()), np.abs(expected), rtol=1e-4, atol=1e-4
    )


def test_whiten_skips_colors_of_gray_images():
    gray = torch.rand(50, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    layer, alone = nn.Conv2d(3, 64, 3), nn.Conv2d(1, 18, 3)
    rest = layer.weight[18:].clone()
    whiten(layer, gray.expand(-1, 3, -1, -1))
    whiten(alone, gray)
    assert torch.equal(layer.weight[18:], rest), "there are 9 components, not 27"
    answers = (
        F.conv2d(gray.expand(-1, 3, -1, -1), layer.weight[:9]),
        F.conv2d(gray, alone.weight[:9]),
    )
    for actual, reference in zip(*(x.transpose(0, 1).flatten(1) for x in answers), strict=True):
        assert torch.allclose(actual * (actual @ reference).sign(), reference, atol=2e-3)
