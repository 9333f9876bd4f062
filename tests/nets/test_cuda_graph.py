"""Training steps replayed from CUDA graphs equal those without."""

import copy
from types import SimpleNamespace

import pytest
import torch

from src.engine.load import load_run
from src.models.base import Family
from src.nets.cuda_graph import Replay
from src.train import train
from tests.conftest import saved
from tests.contract.small import overrides, small_run

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

TRAINING = (
    "trainer.accelerator=gpu",
    "trainer.precision=32-true",
    "trainer.deterministic=warn",
    "callbacks=none",
    "data.limit=22",  # 6 + 6 + 6 + 4 images, so that two sizes are recorded
    "test=false",
)


@needs_gpu
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_replay_equals_the_function_for_each_shape(precision):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.Tanh(), torch.nn.Linear(7, 3)
    ).cuda()
    other = copy.deepcopy(net)
    replay = Replay()

    def step(net, call, x):
        net.zero_grad()
        with torch.autocast("cuda", precision, enabled=precision != torch.float32):
            call(x).float().square().sum().backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= 0.1 * parameter.grad
        gradients = [parameter.grad.clone() for parameter in net.parameters()]
        return gradients + [buffer.clone() for buffer in net.buffers()]

    for size in (4, 4, 6, 4, 6):
        x = torch.randn(size, 5, device="cuda")
        found = step(net, lambda x: replay(net, net, x), x)
        for one, expected in zip(found, step(other, other, x), strict=True):
            torch.testing.assert_close(one, expected)


@needs_gpu
def test_random_numbers_are_those_without_replay():
    net = torch.nn.Dropout().cuda()
    replay, x = Replay(), torch.ones(1000, device="cuda", requires_grad=True)
    for seed in (0, 0, 1):  # the first one records
        torch.manual_seed(seed)
        found = replay(net, net, x).clone(), torch.rand(1, device="cuda")
        torch.manual_seed(seed)
        expected = net(x), torch.rand(1, device="cuda")
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@needs_gpu
def test_a_parameter_that_is_unfrozen_gets_gradients():
    net, replay, x = torch.nn.Linear(2, 2).cuda(), Replay(), torch.ones(1, 2, device="cuda")
    net.weight.requires_grad_(False)
    replay(net, net, x).sum().backward()
    assert net.weight.grad is None
    net.weight.requires_grad_(True)
    replay(net, net, x).sum().backward()
    assert torch.equal(net.weight.grad, torch.ones(2, 2, device="cuda"))


@needs_gpu
def test_gradients_of_added_parameters_have_memory_of_their_own():
    class Sum(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (torch.nn.Parameter(torch.zeros(3)) for _ in range(2))

        def forward(self, x):
            return x * (self.a + self.b)

    net, replay, x = Sum().cuda(), Replay(), torch.ones(2, 3, device="cuda")
    for _ in range(2):
        net.zero_grad()
        replay(net, net, x).sum().backward()
        for parameter in net.parameters():
            parameter.grad *= 0.5
        for parameter in net.parameters():
            assert torch.equal(parameter.grad, torch.ones(3, device="cuda"))


@needs_gpu
@pytest.mark.parametrize(
    ("model", "more"),
    [
        # plain SGD: Adam turns the rounding of a gradient near zero into a whole step
        ("draw", "model/optimizer=sgd"),
        ("draw_noattention", "model/optimizer=sgd"),
        ("vae", "model.likelihood=gaussian"),
        ("gan", ""),
        ("dcgan", "model/loss=ragan"),
        ("cdcgan", ""),
        ("wgan_gp", "model.n_critic=2"),
        ("lenet", "model.net.dropout=[0.5,0.5]"),
        ("lenet", "trainer.accumulate_grad_batches=2"),
        ("vae", "trainer.accumulate_grad_batches=3"),
        ("resnet20", "model.ema=0.9"),
        ("airbench", ""),
    ],
)
def test_a_run_has_the_weights_of_one_without_replay(model, more, inputs, tmp_path):
    weights = []
    for setting in ("true", "false"):
        words = [w for w in overrides(model, inputs) if "callbacks" not in w]
        words += [*TRAINING, *more.split(), f"model.cuda_graph={setting}"]
        by_name = {word.partition("=")[0]: word for word in words}  # a later word replaces others
        cfg = small_run(*by_name.values(), f"cache={inputs / 'cache'}")
        train(cfg, saved(cfg, tmp_path / setting))
        weights.append(load_run(tmp_path / setting)[1].state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("setting", "on_gpu", "accumulated", "gradients", "is_replayed"),
    [
        (True, True, 1, True, True),
        (False, True, 1, True, False),
        (True, False, 1, True, False),
        (True, True, 2, True, False),  # a second backward pass would overwrite the first gradient
        (True, True, 1, False, False),
    ],
)
def test_a_step_is_replayed_only_where_that_is_right(
    setting, on_gpu, accumulated, gradients, is_replayed
):
    model, calls = Family(cuda_graph=setting), []
    if setting:
        model.replay = lambda *args: calls.append(args)
    model._trainer = SimpleNamespace(accumulate_grad_batches=accumulated)
    with torch.set_grad_enabled(gradients):
        model.replayed(lambda x: x, torch.nn.Identity(), SimpleNamespace(is_cuda=on_gpu))
    assert bool(calls) == is_replayed


def test_copies_have_no_recordings():
    replay = Replay()
    replay._recorded["key"] = lambda: None
    assert not copy.deepcopy(replay)._recorded
