"""CycleGAN's nets: parameter counts, sizes and norms."""

import numpy as np
import pytest
import torch

from src.core.errors import UserError
from src.engine import build
from src.nets.cyclegan import InstanceNorm, Residual, discriminator, generator
from tests.conftest import WINTER_NET, WINTER_SMALL


def count(net):
    return sum(p.numel() for p in net.parameters())


def test_parameter_counts_equal_the_paper_without_biases_before_norms():
    """The authors' networks at 256 pixels have 11,378,179 and 2,764,737 parameters, with these
    biases."""
    assert count(generator(3, 256)) == 11_378_179 - (64 + 128 + 256 + 9 * 2 * 256 + 128 + 64)
    assert count(generator(3, 128)) == count(generator(3, 256)) - 3 * 2 * 256 * 256 * 9
    assert count(discriminator(3, 256)) == 2_764_737 - (128 + 256 + 512)


@pytest.mark.parametrize(("size", "halved"), [(256, 2), (64, 2), (32, 1)])
def test_small_images_are_downsampled_once(config, size, halved):
    cfg = config(
        *WINTER_SMALL,
        "data=winter",
        "data.root=none",
        f"data.size={size}",
        "model.generator.base_channels=2",
    )
    net, x = build.model(cfg).g, torch.rand(1, 3, size, size)
    block = next(i for i, layer in enumerate(net) if isinstance(layer, Residual))
    assert net[:block](x).shape == (1, 2 * 2**halved, size // 2**halved, size // 2**halved)
    assert net(x).shape == x.shape


@pytest.mark.parametrize(
    ("size", "scores", "seen"), [(256, 30, 70), (128, 14, 70), (64, 14, 34), (32, 14, 16)]
)
def test_discriminator_score_depends_on_a_patch(size, scores, seen):
    """The patch is found by the gradient, without the norms, which depend on the whole image."""
    net = discriminator(3, size, base_channels=2)
    for i, layer in enumerate(net):
        if isinstance(layer, InstanceNorm):
            net[i] = torch.nn.Identity()
    x = torch.rand(1, 3, size, size, requires_grad=True)
    out = net(x)
    assert out.shape == (1, 1, scores, scores)
    out[0, 0, scores // 2, scores // 2].backward()
    rows = x.grad[0].abs().sum((0, 2)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 == seen


def test_translation_does_not_depend_on_batch_or_mode():
    net = generator(3, 32, base_channels=4, n_blocks=2)
    x = torch.rand(3, 3, 32, 32) * 2 - 1
    assert torch.allclose(net(x)[:1], net.eval()(x[:1]), atol=1e-5)
    assert net(x).shape == x.shape
    assert net(x).abs().max() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_instance_norm_equals_torch(dtype):
    x = (torch.randn(3, 5, 6, 7) * 4 + 2).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        actual = InstanceNorm()(x)
    assert actual.dtype is dtype
    assert torch.allclose(
        actual.float(),
        torch.nn.InstanceNorm2d(5)(x.float()),
        atol=1e-5 if dtype is torch.float32 else 2e-2,
    )


def test_first_convolution_uses_reflection_padding():
    net = generator(1, 16, base_channels=1)
    x = torch.arange(256.0).view(1, 1, 16, 16)
    padded = np.pad(x[0, 0].numpy(), 3, mode="reflect")
    assert np.array_equal(net[0](x)[0, 0].numpy(), padded)
    residual = net[10].body
    assert np.array_equal(residual[0](x)[0, 0].numpy(), np.pad(x[0, 0].numpy(), 1, mode="reflect"))


@pytest.mark.parametrize("size", [18, 12])
def test_generator_refuses_sides_that_are_not_a_multiple_of_four(config, photos, size):
    with pytest.raises(
        UserError,
        match=f"data.size={size} does not fit: its sides must be multiples of 4, 16 or more",
    ):
        build.model(config(*WINTER_NET, "data=winter", f"data.root={photos}", f"data.size={size}"))


def test_discriminator_refuses_too_many_strides():
    for size, layers in ((16, 3), (32, 4)):
        with pytest.raises(ValueError, match=f"{layers} strides leave nothing of {size} pixels"):
            discriminator(3, size, base_channels=2, n_layers=layers)
    assert discriminator(3, 24, base_channels=2, n_layers=3)(torch.zeros(1, 3, 24, 24)).shape == (
        1,
        1,
        1,
        1,
    )
