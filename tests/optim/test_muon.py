"""Muon against its formula, and against torch's SGD for the other parameters."""

import copy

import numpy as np
import torch
from torch import nn

from src.optim.muon import Muon, orthogonal
from src.train import train
from tests.conftest import TINY, saved, weights_of
from tests.nets.test_cuda_graph import needs_gpu


def test_orthogonal_brings_singular_values_near_one():
    for shape in ((8, 40), (40, 8)):
        noise = torch.Generator().manual_seed(0)
        matrix = torch.randn(shape, generator=noise) * torch.linspace(0.5, 3, shape[1])
        u, s, v = np.linalg.svd(matrix.numpy(), full_matrices=False)
        result = orthogonal(matrix[None], 5)[0]
        values = np.linalg.svd(result.numpy(), compute_uv=False)
        assert s.max() / s.min() > 1.9
        assert 0.6 < values.min() <= values.max() < 1.3
        assert np.abs(np.diag(u.T @ result.numpy() @ v.T)).min() > 0.6
        larger = orthogonal(128 * matrix[None], 5)[0]
        assert np.allclose(larger, result, atol=1e-5), "for any size"


def test_singular_values_follow_the_polynomial_of_jordan():
    """Each iteration is s -> a s + b s^3 + c s^5, from the values divided by the matrix's norm."""
    matrix = torch.randn(6, 36, generator=torch.Generator().manual_seed(0))
    s = np.linalg.svd(matrix.double().numpy(), compute_uv=False)
    s = s / np.linalg.norm(s)
    for _ in range(3):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    values = np.linalg.svd(orthogonal(matrix[None])[0].double().numpy(), compute_uv=False)
    assert np.allclose(np.sort(values), np.sort(s), atol=1e-5)


def test_filter_step_equals_the_formula():
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, bias=False)
    optimizer = Muon(
        layer.parameters(), lr=0.1, filter_lr=2.0, filter_momentum=0.6, weight_decay=9.0
    )
    weight, momentum = layer.weight.detach().clone(), torch.zeros(6, 4, 3, 3)
    for _ in range(3):
        gradient = torch.randn(6, 4, 3, 3)
        layer.weight.grad = gradient.clone()
        optimizer.step()
        momentum = 0.6 * momentum + gradient
        nesterov = gradient + 0.6 * momentum
        weight = weight * 6**0.5 / weight.norm()
        weight = weight - 0.2 * orthogonal(nesterov.reshape(1, 6, 36)).reshape(6, 4, 3, 3)
        assert torch.allclose(layer.weight, weight, atol=1e-5)


def test_filters_of_one_shape_are_updated_as_if_alone():
    torch.manual_seed(0)
    sizes = [(4, 6), (6, 60), (4, 6), (60, 4)]  # wide and tall matrices, two of one shape
    layers = [nn.Conv2d(a, b, 3, bias=False) for a, b in sizes]
    weights = [layer.weight for layer in layers]
    copies = copy.deepcopy(weights)
    together, alone = Muon(weights, lr=0.1), [Muon([weight], lr=0.1) for weight in copies]
    for _ in range(2):
        for weight, other in zip(weights, copies, strict=True):
            weight.grad = torch.randn(weight.shape).to(memory_format=torch.channels_last)
            other.grad = weight.grad.clone()
        for optimizer in (together, *alone):
            optimizer.step()
    for weight, other in zip(weights, copies, strict=True):
        assert torch.allclose(weight, other, atol=1e-5)


@needs_gpu
def test_steps_on_a_gpu_equal_those_on_a_cpu():
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 6, 3))]
    nets.append(copy.deepcopy(nets[0]).cuda().to(memory_format=torch.channels_last))
    optimizers = [Muon(net.parameters(), lr=0.1) for net in nets]
    for step in range(4):
        if step == 2:
            for optimizer in optimizers:  # as a resumed run does
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.cuda()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.allclose(a, b.cpu(), atol=2e-2)


def test_other_parameters_equal_torchs_sgd():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    other = copy.deepcopy(net)
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    actual, reference = (
        Muon(net.parameters(), **settings),
        torch.optim.SGD(other.parameters(), nesterov=True, **settings),
    )
    for _ in range(3):
        x = torch.randn(5, 3, 4, 4)
        for model, optimizer in ((net, actual), (other, reference)):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_muon_state_is_saved_and_loaded():
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 6, 3) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    optimizers = [Muon(layer.parameters(), lr=0.1) for layer in layers]

    def step(k, seed):
        for p in layers[k].parameters():
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(seed))
        optimizers[k].step()

    step(0, 1)
    layers[1].load_state_dict(layers[0].state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    step(0, 2)
    step(1, 2)
    assert torch.equal(layers[0].weight, layers[1].weight)


def test_gradients_are_clipped_in_mixed_precision(config, tmp_path):
    """Lightning refuses to clip for fused optimizers, so the project does it; clipped runs
    differ."""
    states = []
    for clip in ("null", "1e-3"):
        cfg = config("model=fc", "data=digits", *TINY, "trainer.precision=bf16-mixed",
                     "trainer.max_epochs=1", "test=false",
                     f"trainer.gradient_clip_val={clip}", "model/optimizer=sgd")  # fmt: skip
        train(cfg, saved(cfg, tmp_path / clip))
        states.append(weights_of(tmp_path / clip)["net.fc1.weight"])
    assert not torch.equal(*states)
