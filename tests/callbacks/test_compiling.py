"""model.compile: the same training within rounding, compiled in training steps only."""

import csv
import logging
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from src.callbacks.compiling import Compile
from src.engine import build
from src.models.base import Family
from src.train import train
from tests.conftest import ROOT
from tests.contract.small import overrides, small_run

COMPILABLE = (
    *("airbench", "cnn", "cyclegan", "dcgan", "draw", "draw_noattention", "fc", "gan"),
    *("lenet", "resnet20", "vae", "vgg", "wgan_gp"),
)


@pytest.mark.parametrize(
    ("setting", "break_even", "expected", "said"),
    [
        (True, None, True, ""),
        (False, 1, False, ""),
        ("auto", None, False, "not compiled, since that would not speed up this model"),
        ("auto", 100, True, "compiled, because the run has 100 batches"),
        ("auto", 101, False, "not compiled, because the run has 100 batches"),
    ],
)
def test_auto_compiles_if_the_run_is_long_enough(
    setting, break_even, expected, said, monkeypatch, caplog
):
    monkeypatch.setattr(logging.getLogger("src"), "propagate", True)
    caplog.set_level(logging.INFO)
    compiled = []
    model = Family(setting)
    monkeypatch.setattr(model, "compile_break_even", lambda: break_even)
    monkeypatch.setattr(model, "compile_networks", lambda: compiled.append(True))
    counts = SimpleNamespace(
        current=SimpleNamespace(processed=0), total=SimpleNamespace(processed=7)
    )
    loop = SimpleNamespace(epoch_progress=counts, epoch_loop=SimpleNamespace(batch_progress=counts))
    trainer = SimpleNamespace(fit_loop=loop, num_training_batches=10, max_epochs=10)
    callback = Compile()
    for batch in range(2):
        callback.on_train_batch_start(trainer, model, None, batch)
        callback.on_train_batch_end()
    callback.teardown(trainer, model, "fit")
    assert bool(compiled) == expected
    if said:
        assert f"model.compile=auto: {said}" in caplog.text
    else:
        assert not caplog.text


@pytest.mark.parametrize("name", ["vae", "draw", "draw_noattention", "cyclegan"])
def test_auto_follows_the_published_measurements(name, config):
    with (ROOT / "results" / "compiling.csv").open() as file:
        rows = {(row["run"], row["metric"]): row["value"] for row in csv.DictReader(file)}
    recipe = rows[name, "label"].strip("`")
    break_even = build.model(config(f"experiment={recipe}", "data.root=DATA")).compile_break_even()
    measured = rows[name, "break_even"]
    if measured == "never":
        assert break_even is None
    else:
        assert break_even == pytest.approx(int(measured.replace(",", "")), rel=0.1)


@pytest.mark.slow
def test_only_training_steps_are_compiled(inputs, tmp_path, monkeypatch):
    sizes = []

    def backend(graph, _):
        def run(*inputs):
            outputs = graph.forward(*inputs)
            sizes.append(len(outputs[0]))
            return outputs

        return run

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    cfg = small_run(*overrides("fc", inputs), "model.compile=true", "data.eval_batch_size=7")
    assert "val/loss" in train(cfg, tmp_path)
    assert set(sizes) == {cfg.data.batch_size}


@pytest.mark.slow
@pytest.mark.parametrize("model", COMPILABLE)
def test_a_compiled_run_equals_an_eager_one_within_rounding(model, inputs, tmp_path):
    losses = []
    for compiled in ("false", "true"):
        torch._dynamo.reset()
        cfg = small_run(*overrides(model, inputs), f"model.compile={compiled}")
        train(cfg, tmp_path / compiled)
        with (tmp_path / compiled / "metrics.csv").open() as file:
            losses.append([
                float(value)
                for row in csv.DictReader(file)
                for name, value in row.items()
                if name.startswith("train/") and name.endswith("loss") and value
            ])  # fmt: skip
    assert losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=5e-3, abs=1e-3)
