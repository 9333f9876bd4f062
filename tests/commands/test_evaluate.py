"""The number of images behind each metric in metrics.json decides which metrics are kept; the
times of a run."""

import json
import time

import pytest
from omegaconf import OmegaConf

from src.callbacks.explanations import Explanations
from src.callbacks.final_metrics import keep_larger
from src.callbacks.train_metrics import TrainMetrics
from src.core import runs
from src.core.errors import UserError
from src.evaluate import evaluate
from src.metrics import features
from src.train import train
from src.viz import charts
from tests.conftest import TINY, TINY_NETS, call, saved
from tests.metrics.families import CARD, small

GAN = (
    *TINY,
    *TINY_NETS,
    *CARD,
    "data.val_size=50",
    "trainer.max_epochs=1",
    "callbacks.quality.n=60",
)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(features, "STEPS", 12)


@pytest.fixture
def gan(config, tmp_path):
    """Return the folder of a run whose test/fid_own is based on 60 samples, and its
    metrics.json."""
    cfg = config(*GAN)
    folder = saved(cfg, tmp_path / "run")
    train(cfg, folder)
    return folder, runs.read_metrics(folder)


def test_metrics_come_with_the_number_of_images(gan):
    _, metrics = gan
    assert (metrics["test/n"], metrics["val/n"]) == (100, 50)
    assert (metrics["test/samples"], metrics["val/samples"]) == (60, 50)
    name, digest = metrics["features"].split()
    assert (name, len(digest)) == ("digits", 12)
    assert 0 <= metrics["test/features_acc"] <= 1


def test_smaller_measurement_is_printed_but_not_saved(gan, capsys):
    folder, before = gan
    values = call("evaluate", evaluate, f"run={folder}", "n=20", "seed=5")
    said = capsys.readouterr().out
    assert values["test/samples"] == 20
    assert values["test/fid_own"] != before["test/fid_own"]
    assert f"test/fid_own       {values['test/fid_own']:.4g}" in said
    assert (
        "not saved: test/samples=20 is smaller than the 60 of the metrics in metrics.json, "
        "which are kept" in said
    )
    assert f"test/fid_own {before['test/fid_own']:.4g}" in said
    assert runs.read_metrics(folder) == before


def test_larger_or_equal_measurement_replaces_the_old_one(gan, capsys):
    folder, before = gan
    for n in (60, 100):
        values = call("evaluate", evaluate, f"run={folder}", f"n={n}", "seed=5")
        after = runs.read_metrics(folder)
        assert after["test/samples"] == values["test/samples"] == n
        assert after["test/fid_own"] == values["test/fid_own"] != before["test/fid_own"]
        assert "not kept" not in capsys.readouterr().out
    for name in ("seconds", "val/fid_own", "images_per_second", "parameters", "peak_memory_mb"):
        assert after[name] == before[name], "what it did not measure stays"


def test_pictures_name_their_checkpoint_and_the_best_has_its_own(config, tmp_path, monkeypatch):
    titles, draw = [], charts.draw_confusion
    monkeypatch.setattr(
        charts, "draw_confusion", lambda *args: titles.append(args[2]) or draw(*args)
    )
    gallery = "src.callbacks.prediction_gallery.PredictionGallery"
    cfg = config(*TINY, "data=digits", "model=fc", "data.val_size=20", "trainer.max_epochs=1",
                 f"+callbacks.predictions={{_target_: {gallery}, n: 4}}",
                 "checkpoint.monitor=val/acc", "test=false")  # fmt: skip
    train(cfg, folder := saved(cfg, tmp_path / "run"))
    titles.clear()
    for which in ("last", "best"):
        call("evaluate", evaluate, f"run={folder}", f"which={which}")
    assert [title.splitlines()[1] for title in titles] == ["after 4 batches"] * 2
    names = {path.name for path in (folder / "images").glob("*test_*")}
    tests = {"test_mistakes.png", "test_confusion.png", "test_classes.png"}
    assert names == tests | {f"best_{name}" for name in tests}


def test_fewer_draws_of_the_latents_do_not_replace_more(config, tmp_path, capsys):
    cfg = small(config, None, "src.models.draw.DRAW", "~callbacks.quality")
    folder = saved(cfg, tmp_path / "run")
    train(cfg, folder)
    many = call("evaluate", evaluate, f"run={folder}", "iwae_samples=20")
    few = call("evaluate", evaluate, f"run={folder}", "iwae_samples=2")
    assert "not saved: test/iwae_samples=2 is smaller than the 20" in capsys.readouterr().out
    metrics = runs.read_metrics(folder)
    assert metrics["test/iwae_nats"] == many["test/iwae_nats"] != few["test/iwae_nats"]
    assert metrics["test/bound_nats"] == few["test/bound_nats"]
    assert metrics["test/iwae_samples"] == 20


def test_evaluation_of_other_weights_replaces_all_metrics_of_the_older_ones(config, tmp_path):
    cfg = small(config, None, "src.models.draw.DRAW", "~callbacks.quality")
    train(cfg, folder := saved(cfg, tmp_path / "run"))
    trained = runs.read_metrics(folder)
    call("evaluate", evaluate, f"run={folder}", "iwae_samples=20")
    older = runs.read_metrics(folder) | {"batches": 1}
    runs.write_metrics(folder, older)
    few = call("evaluate", evaluate, f"run={folder}", "iwae_samples=2")
    metrics = runs.read_metrics(folder)
    assert metrics["test/iwae_nats"] == few["test/iwae_nats"]
    assert metrics["batches"] == trained["batches"]
    assert not [name for name in metrics if name.startswith("train/")]
    assert metrics["parameters"] == trained["parameters"]


def test_metrics_of_an_older_model_are_dropped_after_more_training(config, tmp_path):
    """An estimate for the older model does not hold for the new one."""
    cfg = small(config, None, "src.models.draw.DRAW", "~callbacks.quality")
    folder = saved(cfg, tmp_path / "run")
    train(cfg, folder)
    call("evaluate", evaluate, f"run={folder}", "iwae_samples=20")
    longer = cfg.copy()
    longer.trainer.max_epochs, longer.resume = 2, str(folder)
    train(longer, folder)
    metrics = runs.read_metrics(folder)
    assert "test/iwae_nats" not in metrics
    assert "test/iwae_samples" not in metrics
    assert metrics["test/n"] == 100


def test_metric_without_a_number_of_images_is_replaced_with_a_message():
    old, new = {"test/fid_own": 3.0, "test/acc": 0.5}, {"test/fid_own": 4.0, "test/samples": 10}
    kept, lines = keep_larger(old, new, {"test/fid_own": "test/samples"})
    assert kept == new
    assert lines == [
        "replaced older metrics: metrics.json did not record test/samples for them "
        "(the number of images they were computed from)"
    ]


def test_a_smaller_test_set_does_not_replace_a_larger_one():
    old = {
        "test/acc": 0.9,
        "test_classes/cat": 0.8,
        "test/n": 100,
        "test/fid_own": 1.0,
        "test/samples": 50,
    }
    new = {
        "test/acc": 0.7,
        "test_classes/cat": 0.6,
        "test/n": 10,
        "test/fid_own": 2.0,
        "test/samples": 60,
    }
    kept, lines = keep_larger(old, new, {"test/fid_own": "test/samples"})
    assert kept == {"test/fid_own": 2.0, "test/samples": 60}
    assert len(lines) == 1
    assert "test/acc 0.9" in lines[0]


def test_n_is_refused_for_a_run_that_measures_no_samples(config, tmp_path):
    cfg = config(*TINY, *TINY_NETS, "trainer.max_epochs=1", "test=false")
    train(cfg, saved(cfg, tmp_path / "run"))
    for word in ("n=20", "inception=true"):
        with pytest.raises(UserError, match="has no callback quality"):
            call("evaluate", evaluate, f"run={tmp_path / 'run'}", word)


def test_n_is_refused_for_a_model_that_cannot_sample(config, tmp_path):
    cfg = config(*TINY, "model=fc", "callbacks=default", "trainer.max_epochs=1", "test=false")
    cfg.callbacks = {"quality": cfg.callbacks.quality}
    train(cfg, saved(cfg, tmp_path / "run"))
    with pytest.raises(UserError, match="n=20 has no effect: a Classifier cannot sample"):
        call("evaluate", evaluate, f"run={tmp_path / 'run'}", "n=20")


def test_a_run_of_several_devices_is_evaluated_by_one(config, tmp_path):
    cfg = config(*TINY, *TINY_NETS, "trainer.max_epochs=1", "test=false")
    train(cfg, saved(cfg, tmp_path / "run"))
    path = tmp_path / "run" / ".hydra" / "config.yaml"
    trained = OmegaConf.load(path)
    trained.trainer.update({"accelerator": "gpu", "devices": 4, "strategy": "ddp"})
    OmegaConf.save(trained, path)
    assert "test/d_loss" in call("evaluate", evaluate, f"run={tmp_path / 'run'}")


# --- time -----------------------------------------------------------------------------------------

PHASES = ("setup_seconds", "train_seconds", "val_seconds", "test_seconds")


def test_time_is_split_and_adds_up(gan):
    _, metrics = gan
    assert sum(metrics[name] for name in PHASES) == pytest.approx(metrics["seconds"])
    assert all(metrics[name] > 0 for name in PHASES)
    assert metrics["images_per_second"] >= 100 / metrics["train_seconds"] * 0.99


def test_each_phase_measures_its_own_time(config, tmp_path, monkeypatch):
    """The feature network belongs to setup: a cached one changes the time of neither validation nor
    test."""
    from src.models.gan import GAN as Model

    now = [0.0]

    def clock():
        now[0] += 1e-7
        return now[0]

    def lasting(function, seconds):
        def slow(*args):
            now[0] += seconds
            return function(*args)

        return slow

    monkeypatch.setattr(time, "perf_counter", clock)
    monkeypatch.setattr(features, "_fit", lasting(features._fit, 1000))
    monkeypatch.setattr(Model, "training_step", lasting(Model.training_step, 10))
    monkeypatch.setattr(Model, "_evaluate", lasting(Model._evaluate, 1))
    cfg = config(*GAN, "trainer.max_epochs=2", "data.eval_batch_size=25")
    metrics = train(cfg, saved(cfg, tmp_path / "run"))
    expected = {"setup": 1000, "train": 8 * 10, "val": 2 * 2, "test": 4}
    for phase, seconds in expected.items():
        assert metrics[f"{phase}_seconds"] == pytest.approx(seconds, abs=0.1), phase


def test_explanations_at_the_end_are_not_training_time(config, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(TrainMetrics, "_tick", lambda self: 1.0)
    monkeypatch.setattr(
        Explanations, "_show", lambda *args, at_end: now.append(now.pop() + 100 * at_end)
    )
    cfg = config(*TINY, "model=fc", "callbacks=default", "trainer.max_epochs=2")
    metrics = train(cfg, saved(cfg, tmp_path / "run"))
    assert (metrics["setup_seconds"], metrics["train_seconds"]) == (100, 0)


def test_session_without_training_keeps_the_times(config, gan, tmp_path):
    folder, before = gan
    cfg = config(*GAN)
    cfg.resume = str(folder)
    train(cfg, folder)
    after = json.loads((folder / "metrics.json").read_text())
    assert {name: after[name] for name in PHASES} == {name: before[name] for name in PHASES}
    assert after["test/fid_own"] == before["test/fid_own"]
    assert after["val/fid_own"] == before["val/fid_own"]


def test_no_validation_set_means_no_validation_time(config, photos, tmp_path):
    cfg = small(config, photos, "src.models.classifier.Classifier", "data.val_size=0", "test=false")
    metrics = train(cfg, saved(cfg, tmp_path / "run"))
    assert (metrics["val_seconds"], metrics["test_seconds"]) == (0, 0)
    assert "val/n" not in metrics
