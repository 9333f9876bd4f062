"""Training steps replayed from CUDA graphs equal those without."""

import copy

import pytest
import torch

from src.config.compose import compose
from src.engine import build
from src.nets.cuda_graph import Replay

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


@needs_gpu
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_replay_equals_the_function_for_each_shape(precision):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3)).cuda()
    other = copy.deepcopy(net)
    replay = Replay(net)

    def step(net, call, x):
        net.zero_grad()
        with torch.autocast("cuda", precision, enabled=precision != torch.float32):
            call(x).float().square().sum().backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= 0.1 * parameter.grad
        return [parameter.grad.clone() for parameter in net.parameters()]

    for size in (4, 4, 6, 4, 6):
        x = torch.randn(size, 5, device="cuda")
        found = step(net, lambda x: replay(net, x), x)
        for one, expected in zip(found, step(other, other, x), strict=True):
            torch.testing.assert_close(one, expected)


@needs_gpu
@pytest.mark.parametrize("attention", ["draw", "draw_noattention"])
def test_gradients_of_draw_are_those_without_replay(attention):
    gradients = []
    for replay in ("true", "false"):
        cfg = compose("train", [f"model={attention}", "data=digits", f"model.cuda_graph={replay}"])
        data = build.datamodule(cfg)
        torch.manual_seed(0)
        model = build.model(cfg, data).cuda()
        x = torch.rand(6, 1, *data.size, generator=torch.Generator().manual_seed(1)).cuda()
        for seed in (0, 1):  # the second one is not the one that was recorded
            model.zero_grad()
            torch.cuda.manual_seed(seed)
            model.training_step((x, None), 0)["loss"].backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_copies_have_no_recordings():
    replay = Replay(torch.nn.Linear(2, 2))
    replay._recorded[(torch.Size([1]),)] = lambda: None
    assert not copy.deepcopy(replay)._recorded
