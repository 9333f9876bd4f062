"""The network of Jordan 2024."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.signal import correlate

from src.nets.airbench import Airbench
from src.optim.muon import Muon


def gelu(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def convolve(x: np.ndarray, weight: np.ndarray, padding: int) -> np.ndarray:
    x = np.pad(x, [(0, 0), (padding, padding), (padding, padding)])
    return np.stack([correlate(x, filters, "valid")[0] for filters in weight])


def pooled(x: np.ndarray) -> np.ndarray:
    c, h, w = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(c, h // 2, 2, w // 2, 2)
    return x.max((2, 4))


def test_logits_equal_numpy():
    torch.manual_seed(0)
    net = Airbench(3, 10, widths=[8, 12, 12], depth=3).eval().double()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.bias.data.normal_()
    image = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    value = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    x = convolve(image[0].numpy(), value["whiten.weight"], 0)
    x = gelu(x + value["whiten.bias"][:, None, None])
    for group in range(3):
        first = x
        for i in range(3):
            start = f"groups.{group}."
            y = convolve(x, value[f"{start}convs.{i}.weight"], 1)
            y = pooled(y) if i == 0 else y
            mean, var, bias = (
                value[f"{start}norms.{i}.{name}"][:, None, None]
                for name in ("running_mean", "running_var", "bias")
            )
            y = (y - mean) / np.sqrt(var) + bias
            x = gelu(y + first if i == 2 else y)
            first = x if i == 0 else first
    expected = value["head.weight"] @ x.max((1, 2)) / 9
    torch.testing.assert_close(net(image)[0], torch.from_numpy(expected))


def test_whitening_filters_and_norm_weights_stay_fixed():
    torch.manual_seed(0)
    net = Airbench(3, 10, widths=[8, 8, 8])
    before = {name: value.clone() for name, value in net.named_parameters()}
    optimizer = Muon(net.parameters(), lr=0.1)
    F.cross_entropy(net(torch.rand(20, 3, 32, 32)), torch.arange(20) % 10).backward()
    optimizer.step()
    fixed = {name for name, value in net.named_parameters() if torch.equal(value, before[name])}
    assert fixed == {
        "whiten.weight",
        *(f"groups.{i}.norms.{k}.weight" for i in range(3) for k in range(2)),
    }
