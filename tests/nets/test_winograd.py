"""Winograd's algorithm equals the convolution of PyTorch, which runs in float64 here."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.nets import winograd
from src.nets.winograd import POINTS, Conv2d, cook_toom


@pytest.fixture
def always(monkeypatch):
    """Use the algorithm for small layers, too."""
    monkeypatch.setattr(winograd, "MIN_CHANNELS", 1)
    monkeypatch.setattr(winograd, "MIN_TILES", 1)


def is_winograd(y):
    return any("Winograd" in type(node).__name__ for node in nodes(y.grad_fn))


def nodes(node):
    return [] if node is None else [node, *(n for f, _ in node.next_functions for n in nodes(f))]


@pytest.mark.parametrize("m", POINTS)
def test_matrices_convolve_exactly(m):
    at, g, bt = cook_toom(m)
    rng = np.random.default_rng(m)
    image, filters = rng.normal(size=m + 2), rng.normal(size=3)
    expected = np.correlate(image, filters, "valid")
    np.testing.assert_allclose(at @ ((g @ filters) * (bt @ image)), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("size", [*((n, n) for n in range(1, 18)), (5, 23), (31, 4)])
@pytest.mark.parametrize(("padding", "multiple"), [(1, 1), (0, 1), (1, 2)])
def test_outputs_and_gradients_equal_torch(always, size, padding, multiple, memory_format):
    if min(size) + 2 * padding - 2 < multiple:
        pytest.skip("the image is too small")
    torch.manual_seed(0)
    layer = Conv2d(3, 4, 3, padding=padding, multiple=multiple).to(memory_format=memory_format)
    x = torch.randn(5, 3, *size).to(memory_format=memory_format).requires_grad_()
    exact = x.detach().double().requires_grad_()
    weight, bias = (p.detach().double().requires_grad_() for p in (layer.weight, layer.bias))
    y = layer(x)
    expected = F.conv2d(exact, weight, bias, padding=padding)
    height, width = (n - n % multiple for n in expected.shape[2:])
    expected = expected[:, :, :height, :width]
    assert is_winograd(y)
    assert y.is_contiguous(memory_format=memory_format)
    grad = torch.randn_like(expected)
    y.backward(grad.float())
    expected.backward(grad)
    pairs = (
        (y, expected),
        (x.grad, exact.grad),
        (layer.weight.grad, weight.grad),
        (layer.bias.grad, bias.grad),
    )
    for ours, theirs in pairs:
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()


def test_parts_of_a_batch_give_the_same_sums(always, monkeypatch):
    torch.manual_seed(0)
    layer, x = Conv2d(4, 4, 3, padding=1), torch.randn(7, 4, 9, 9)
    (expected,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
    monkeypatch.setattr(winograd, "ROW", 1)  # one image at a time
    (parts,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
    torch.testing.assert_close(parts, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("trained", ["input", "weight"])
@pytest.mark.parametrize("size", [6, 11])  # one tile, and four
def test_only_the_gradients_that_are_needed(always, trained, size):
    layer = Conv2d(2, 2, 3, padding=1, bias=False)
    layer.weight.requires_grad_(trained == "weight")
    x = torch.randn(2, 2, size, size, requires_grad=trained == "input")
    layer(x).sum().backward()
    assert (x.grad is None) == (trained == "weight")
    assert (layer.weight.grad is None) == (trained == "input")


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 5},
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": 3, "dilation": 2},
        {"kernel_size": 3, "groups": 2},
        {"kernel_size": 3, "padding": 2},
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    ],
    ids=str,
)
def test_other_convolutions_are_those_of_torch(always, settings):
    torch.manual_seed(0)
    layer, theirs = Conv2d(4, 4, **settings), nn.Conv2d(4, 4, **settings)
    theirs.load_state_dict(layer.state_dict())
    x = torch.randn(2, 4, 12, 12)
    torch.testing.assert_close(layer(x), theirs(x), rtol=0, atol=0)
    assert not is_winograd(layer(x))


def test_small_layers_other_types_and_traces_use_torch(monkeypatch):
    x = torch.randn(16, 64, 16, 16)
    layer = Conv2d(64, 64, 3, padding=1)
    assert is_winograd(layer(x))
    assert not is_winograd(layer(x[:1]))  # too few tiles
    assert not is_winograd(Conv2d(64, 8, 3, padding=1)(x))  # too few channels
    assert is_winograd(layer(torch.randn(1, 64, 64, 64)))
    assert not is_winograd(layer(torch.randn(1, 64, 65, 65)))  # too large
    assert not is_winograd(layer.double()(x.double()))
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_winograd(layer.float()(x))
    graph = str(torch.jit.trace(layer, x, check_trace=False).inlined_graph)
    assert "aten::_convolution" in graph
    exported = torch.export.export(layer, (x,))
    assert "conv2d" in str(exported.graph)


def test_inference_leaves_matrices_that_training_can_use(always):
    winograd.side.cache_clear()
    layer, x = Conv2d(2, 2, 3, padding=1), torch.randn(2, 2, 11, 11)
    with torch.inference_mode():
        expected = layer(x)
    y = layer(x)
    y.sum().backward()
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
