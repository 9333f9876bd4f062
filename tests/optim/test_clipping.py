"""Limits and norms of gradients and weights."""

import pytest
import torch
from torch import nn

from src.optim.clipping import clip_each, clip_weights, grad_norm


def test_clip_each_clips_each_gradient_separately():
    """Slip: one norm over all, which would scale the small gradient too."""
    large, small, none = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    large.grad, small.grad = torch.tensor([30.0, 40.0]), torch.tensor([0.3, 0.4])
    clip_each([large, small, none], 5.0)
    assert large.grad.tolist() == pytest.approx([3, 4])
    assert small.grad.tolist() == pytest.approx([0.3, 0.4])


def test_clip_weights_in_place():
    net = nn.Linear(2, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[3.0, -0.001]]))
    clip_weights(net, 0.01)
    assert net.weight.tolist() == [[pytest.approx(0.01), pytest.approx(-0.001)]]


def test_grad_norm_is_over_all_parameters():
    net = nn.Linear(1, 1)
    net.weight.grad, net.bias.grad = torch.tensor([[3.0]]), torch.tensor([4.0])
    assert grad_norm(net.parameters()).item() == pytest.approx(5)
