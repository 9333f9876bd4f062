"""Workers that decode images get cores, unless the network needs them or OMP_NUM_THREADS is set."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from src.callbacks import worker_cores
from src.callbacks.worker_cores import SMALL, WorkerCores, multiply_adds_per_pixel
from src.engine import build


@pytest.fixture
def made(config):
    """A function: overrides -> a model, and a Trainer that has its data and one worker."""

    def make(*overrides):
        cfg = config("data=digits", "data.limit=20", *overrides)
        data = build.datamodule(cfg)
        model = build.model(cfg, data)
        model.trainer = SimpleNamespace(
            datamodule=data,
            train_dataloader=SimpleNamespace(num_workers=1),
            strategy=SimpleNamespace(root_device=torch.device("cpu")),
            world_size=1,
        )
        return model, model.trainer

    return make


@pytest.fixture
def four_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_multiply_adds_are_those_of_all_layers(made):
    model, _ = made("model=fc", "model.net.hidden_dims=[30,20]", "data.size=28")
    expected = 28 * 28 * 30 + 30 * 20 + 20 * 10
    assert multiply_adds_per_pixel(model) == pytest.approx(expected / 28**2)


def test_counting_changes_neither_the_network_nor_random_numbers(made):
    model, _ = made("model=lenet")
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before = torch.get_rng_state()
    multiply_adds_per_pixel(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.net.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("overrides", "workers", "threads"),
    [
        (("model=fc",), 1, 3),
        (("model=fc",), 9, 1),
        (("model=fc",), 0, 4),
        (("model=fc", "model.net.hidden_dims=[4000]"), 1, 4),
    ],
)
def test_a_small_network_leaves_cores_while_it_trains(
    made, four_threads, overrides, workers, threads
):
    model, trainer = made(*overrides)
    assert (multiply_adds_per_pixel(model) < SMALL) == (len(overrides) == 1)
    trainer.train_dataloader.num_workers = workers
    callback = WorkerCores()
    callback.on_train_start(trainer, model)
    assert torch.get_num_threads() == threads
    callback.on_train_end(trainer, model)
    assert torch.get_num_threads() == 4


def test_a_number_of_threads_in_the_environment_is_kept(made, four_threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    WorkerCores().on_train_start(*reversed(made("model=fc")))
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("running", "advice"), [(1, None), (3, 2), (9, 1)])
def test_other_busy_programs_are_named_and_change_nothing(
    made, four_threads, monkeypatch, log_lines, running, advice
):
    monkeypatch.setattr(worker_cores, "busy_threads", lambda: running)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    model, trainer = made("model=fc")
    trainer.train_dataloader.num_workers = 0
    WorkerCores().on_train_start(trainer, model)
    assert torch.get_num_threads() == 4
    expected = [] if advice is None else [f"OMP_NUM_THREADS={advice}"]
    assert [line.rpartition("with ")[2] for line in log_lines] == expected


def test_threads_that_want_a_core_are_counted(tmp_path):
    assert worker_cores.busy_threads(tmp_path / "missing") == 0
    own = tmp_path / "loadavg"
    own.write_text("0.50 0.40 0.30 3/456 7890\n")
    assert worker_cores.busy_threads(own) == 3
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.5)
        assert worker_cores.busy_threads() >= 2, "this one and the spinning one"
    finally:
        spinning.kill()
        spinning.wait()
