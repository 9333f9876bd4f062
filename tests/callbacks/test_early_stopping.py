"""Training that stops without improvement, and continues if a resumed session allows it."""

import os
import shutil
import signal

import pytest
import pytorch_lightning as pl

from src.callbacks.early_stopping import EarlyStopping, how_to_train_longer
from src.callbacks.pruning import Pruning
from src.core import runs
from src.core.errors import Interrupted
from src.engine import build
from src.engine.resume import batches_done
from src.metrics import features
from src.models.vae import VAE
from src.optim.schedules import Plateau
from src.train import train
from tests.conftest import TINY, command, saved
from tests.engine.interruptions import assert_same, rows, state

# no improvement of 1e9 after the first validation: a patience of 1 ends it after 2 epochs
ENDED = (*TINY, "model=fc", "callbacks=[none,early_stopping]",
         "callbacks.early_stopping.min_delta=1e9",
         "data.val_size=20", "trainer.max_epochs=6", "test=false")  # fmt: skip


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder of a run that early stopping ended after 2 of 6 epochs, 4 batches each."""
    return trained(tmp_path_factory.mktemp("ended") / "run", 1)


def trained(folder, patience):
    from src.config.checks import check
    from src.config.compose import compose

    cfg = compose("train", [*ENDED, f"callbacks.early_stopping.patience={patience}"])
    check(cfg)
    train(cfg, saved(cfg, folder))
    return folder


def batches(folder):
    return batches_done(runs.load_last(folder))


@pytest.mark.parametrize(
    ("monitor", "mode", "found"),
    [("val/acc", None, "max"), ("val/loss", None, "min"), (None, None, "min"),
     ("val/acc", "min", "min")],
)  # fmt: skip
def test_the_name_of_a_metric_says_whether_lower_or_higher_is_better(monitor, mode, found):
    assert EarlyStopping(monitor, mode, 5, 0.0).mode == found
    assert Plateau(monitor, mode).sign == (1 if found == "min" else -1)


@pytest.mark.slow
def test_stopped_run_stays_stopped_and_says_how_to_train_longer(ended, tmp_path):
    assert batches(ended) == 8
    folder = shutil.copytree(ended, tmp_path / "run")
    result = command("train", f"resume={folder}", "trainer.max_epochs=9")
    assert result.returncode == 0, result.stderr
    assert batches(folder) == 8
    assert (
        "early stopping ended this run after 2 epochs. To train longer: "
        "callbacks.early_stopping.patience=N with N > 1, or ~callbacks.early_stopping"
        in result.stderr
    )


def test_run_that_a_time_limit_ended_says_how_to_train_longer():
    timer = pl.callbacks.Timer({"seconds": 5})
    trainer = pl.Trainer(callbacks=[timer], max_epochs=9, logger=False, accelerator="cpu")
    assert how_to_train_longer(trainer).startswith("training had already finished (9 epochs)")
    timer.load_state_dict({"time_elapsed": {"train": 5.0}})
    assert how_to_train_longer(trainer) == (
        "trainer.max_time ended this run after 0 batches. To train longer: trainer.max_time=null, "
        "or a longer time"
    )


def test_samples_of_a_run_that_stops_early_are_measured(config, tmp_path, monkeypatch):
    """A signal in the validation that ends the run comes before they are measured."""
    step = VAE.validation_step

    def signaled(self, batch, batch_idx):
        if self.trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(VAE, "validation_step", signaled)
    monkeypatch.setattr(features, "STEPS", 5)
    cfg = config(*TINY, "model=vae", "callbacks=[default,early_stopping]", "data.val_size=20",
                 "callbacks.early_stopping.min_delta=1e9", "callbacks.early_stopping.patience=1",
                 "trainer.max_epochs=6", "test=false")  # fmt: skip
    folder = saved(cfg, tmp_path / "run")
    with pytest.raises(Interrupted):
        train(cfg, folder)
    cfg.resume = str(folder)
    metrics = train(cfg, folder)
    assert metrics["batches"] == 8
    assert float(rows(folder)[-1]["val/fid_own"]) == metrics["val/fid_own"]
    assert metrics["val/fid_own"] == runs.load_last(folder)["metrics"]["val/fid_own"]


def test_only_early_stopping_says_that_it_stopped_the_run(config, tmp_path, log_lines):
    """The run is stopped by another callback, before its first validation."""

    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, *args):
            trainer.should_stop = True

    cfg = config(*ENDED, "data=digits")
    data = build.datamodule(cfg)
    build.trainer(cfg, tmp_path, Stop()).fit(build.model(cfg, data), datamodule=data)
    assert not [line for line in log_lines if "stopped, because" in line]


@pytest.mark.slow
def test_resume_with_larger_patience_equals_a_run_with_that_patience(ended, tmp_path):
    folder = shutil.copytree(ended, tmp_path / "run")
    result = command("train", f"resume={folder}", "callbacks.early_stopping.patience=3")
    assert result.returncode == 0, result.stderr
    whole = trained(tmp_path / "whole", 3)
    assert batches(folder) == batches(whole) == 16
    one, other = state(folder), state(whole)
    for checkpoint in (one, other):
        del checkpoint["train_metrics"]  # times
    assert_same(one, other)
    assert rows(folder) == rows(whole)


@pytest.mark.slow
def test_resume_without_early_stopping_trains_to_the_end(ended, tmp_path):
    folder = shutil.copytree(ended, tmp_path / "run")
    result = command("train", f"resume={folder}", "~callbacks.early_stopping")
    assert result.returncode == 0, result.stderr
    assert batches(folder) == 24
    assert "early_stopping" not in runs.load_config(folder).callbacks


def test_pruning_reports_only_values_of_this_validation(config, tmp_path):
    """The metric is measured after every second epoch."""

    class Measures(pl.Callback):
        def on_validation_epoch_end(self, trainer, model):
            if trainer.current_epoch % 2:
                model.log("val/x", 7.0)

    reported = []
    pruning = Pruning(None, "sweep", "study", 0, "val/x", None)
    pruning._is_worse = lambda value, epoch: reported.append((epoch, value)) or False
    cfg = config(*TINY, "data=digits", "model=fc", "data.val_size=20", "trainer.max_epochs=5")
    data = build.datamodule(cfg)
    trainer = build.trainer(cfg, tmp_path, Measures(), pruning)
    trainer.fit(build.model(cfg, data), datamodule=data)
    assert reported == [(2, 7.0), (4, 7.0)]
