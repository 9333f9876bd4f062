"""The moving average of weights, against its formula."""

import pytest
import torch
from torch import nn

from src.nets.average import MovingAverage, moving_average


@pytest.mark.parametrize("ramp_up", [False, True])
def test_it_follows_the_formula(ramp_up):
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = MovingAverage(net, 0.3, ramp_up)
    expected: dict[str, torch.Tensor] = {}
    for n in range(6):
        for tensor in (*net.parameters(), *net.buffers()):
            new = torch.randn(tensor.shape) if tensor.is_floating_point() else torch.tensor(7 * n)
            tensor.data.copy_(new)
        decay = min(0.3, (1 + n) / (10 + n)) if ramp_up else 0.3
        for name, value in net.state_dict().items():
            if n == 0 or not value.is_floating_point():
                expected[name] = value.clone()  # the first update copies
            else:
                expected[name] = decay * expected[name] + (1 - decay) * value
        average.update(net)
    found = average.module.state_dict()
    assert all(torch.allclose(found[name], value, atol=1e-6) for name, value in expected.items())
    assert not any(p.requires_grad for p in average.parameters())


def test_a_checkpoint_holds_the_number_of_updates():
    net = nn.Linear(2, 2)
    first, second = MovingAverage(net, 0.9), MovingAverage(net, 0.9)
    for _ in range(3):
        first.update(net)
    second.load_state_dict(first.state_dict())
    assert second.updates == 3


def test_without_a_decay_there_is_none():
    assert moving_average(nn.Linear(1, 1), 0.0) is None


def test_it_averages_the_tensors_that_a_conversion_replaced():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = MovingAverage(net, 0.5)
    average.update(net)
    nn.ModuleList([net, average]).double()
    for value in (*net.parameters(), *net.buffers()):
        value.data.fill_(4)
    for _ in range(3):
        average.update(net)
    start = dict(MovingAverage(nn.BatchNorm1d(2), 0.5).module.named_buffers())["running_var"]
    expected = 4 - (4 - start.double()) / 8
    assert torch.allclose(average.module.get_buffer("1.running_var"), expected)
    assert average.module.get_buffer("1.num_batches_tracked") == 4
