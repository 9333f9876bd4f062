"""The metrics of every family are computed in float32, whatever the precision of training."""

import pytest

from src.config.signatures import class_attribute
from src.engine import build
from src.engine.load import load_run
from src.evaluate import evaluate
from src.metrics import features
from src.train import train
from tests.conftest import call, saved
from tests.contract.small import class_of, fast_models, overrides, small_run
from tests.metrics.families import BF16, CARD


@pytest.mark.parametrize("model", sorted(fast_models()))
def test_metrics_are_float32_whatever_the_training_precision(inputs, tmp_path, monkeypatch, model):
    """A run trained in bf16 has the same metrics, to the bit, from Trainers of either precision."""
    if "precision" in (class_attribute(class_of(model), "supports") or {}):
        pytest.skip("it computes in float32 only")
    monkeypatch.setattr(features, "STEPS", 12)
    words = [w for w in overrides(model, inputs) if "callbacks" not in w and "precision" not in w]
    cfg = small_run(*words, *CARD, BF16, "seed=3", f"cache={tmp_path / 'cache'}")
    values = train(cfg, saved(cfg, tmp_path / "run"))
    figures = {name: value for name, value in values.items() if name.startswith("test")}
    del figures["test_seconds"]
    assert any(name.startswith("test/") for name in figures)
    again = call("evaluate", evaluate, f"run={tmp_path / 'run'}")
    assert {name: again[name] for name in figures} == figures, "the same test again"
    for stage in ["test", *(["validate"] if len(build.datamodule(cfg).val) else [])]:
        _, trained, _ = load_run(tmp_path / "run")
        measured = []
        for precision in ("32-true", "bf16-mixed"):
            cfg.trainer.precision = precision
            trainer = build.trainer(cfg, tmp_path / "other", keep=False)
            getattr(trainer, stage)(trained, datamodule=build.datamodule(cfg), verbose=False)
            measured.append(
                {name: float(value) for name, value in trainer.callback_metrics.items()}
            )
        assert measured[0] == measured[1]
        assert measured[0]
        if stage == "test":
            assert all(figures[name] == value for name, value in measured[0].items())
