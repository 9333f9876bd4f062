"""A run that diverges stops before a value that is not finite is saved."""

import math
import re
from types import SimpleNamespace

import pytest
import torch

from src.callbacks.nonfinite import NonFinite
from src.core import runs
from src.core.errors import TrainingFailed
from src.models.classifier import Classifier
from src.train import train
from tests.conftest import TINY, TINY_NETS, WINTER_RUN, command, saved

HUGE = "model.optimizer.lr=1e18"
OFTEN = ("trainer.max_epochs=50", "checkpoint.every_n_batches=1", "data.val_size=20", "test=false")
REVIEWS = ("data=reviews", "trainer.accelerator=cpu", "callbacks=none", "logger=csv", "test=false")
DIVERGING = {
    "classifier": (*TINY, *OFTEN, "model=fc", HUGE),
    "gan": (*TINY, *OFTEN, *TINY_NETS, HUGE),
    "draw": (*TINY, *OFTEN, "model=draw", "model.net.num_steps=2", "model.net.encoder_dim=8", HUGE),
    "cyclegan": (*WINTER_RUN, "checkpoint.every_n_batches=1", HUGE),
    "word_vectors": (*REVIEWS, "model=word_vectors", HUGE),
}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("family", DIVERGING)
def test_divergence_stops_the_run_and_leaves_finite_checkpoints(
    config, tmp_path, photos, family, precision
):
    overrides = [*DIVERGING[family], f"trainer.precision={precision}"]
    cfg = config(*overrides, *([f"data.root={photos}"] if family == "cyclegan" else []))
    folder = saved(cfg, tmp_path / "run")
    with pytest.raises(
        TrainingFailed, match=r"batch \d+ \(epoch \d+\): .* (nan|inf|not finite)"
    ) as error:
        train(cfg, folder)
    assert "\n" not in str(error.value)
    batches = torch.load(folder / "nonfinite_batch.pt", weights_only=True)["batches"]
    number = int(re.search(r"batch (\d+)", str(error.value)).group(1))
    assert len(batches) == min(number, 2), "the batch and the one before it"
    for path in (folder / "checkpoints").glob("*.ckpt"):
        state = runs.load_checkpoint(path)["state_dict"]
        assert all(value.isfinite().all() for value in state.values()), path


@pytest.mark.slow
def test_the_command_exits_with_1_and_one_line(tmp_path):
    result = command("train", *DIVERGING["classifier"], f"hydra.run.dir={tmp_path / 'run'}")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: Classifier, batch ")


@pytest.mark.parametrize("every", [1, 50])
def test_a_gradient_that_is_not_finite_is_found(config, tmp_path, monkeypatch, every):
    """At the batch itself if it is a logging step, else by the loss of the next batch."""
    step = Classifier.training_step

    def poisoned(self, batch, batch_idx):
        outputs = step(self, batch, batch_idx)
        if batch_idx == 2:
            self.net.fc1.weight.register_hook(lambda gradient: gradient * math.nan)
        return outputs

    monkeypatch.setattr(Classifier, "training_step", poisoned)
    cfg = config("model=fc", *TINY, "test=false", f"trainer.log_every_n_steps={every}")
    found = "batch 3 .*the gradient norm is nan" if every == 1 else "batch 4 .*the loss is nan"
    with pytest.raises(TrainingFailed, match=found):
        train(cfg, saved(cfg, tmp_path / "run"))


def test_weights_that_are_not_finite_are_not_saved(config, tmp_path, monkeypatch):
    """Weights may become infinite in the last step before a checkpoint, after which no loss is
    computed."""
    update = Classifier.optimizer_step

    def poisoned(self, epoch, batch_idx, *args, **kwargs):
        update(self, epoch, batch_idx, *args, **kwargs)
        if batch_idx == 1:
            with torch.no_grad():
                self.net.fc2.bias[0] = math.inf

    monkeypatch.setattr(Classifier, "optimizer_step", poisoned)
    cfg = config("model=fc", *TINY, "test=false", "checkpoint.every_n_batches=1")
    folder = saved(cfg, tmp_path / "run")
    with pytest.raises(TrainingFailed, match=r"batch 2 .*net\.fc2\.bias is not finite"):
        train(cfg, folder)
    assert runs.load_last(folder)["state_dict"]["net.fc2.bias"].isfinite().all()


def test_on_nonfinite_warn_continues_to_the_end_with_all_pictures(config, tmp_path, capfd):
    everything = [o for o in TINY if o not in ("callbacks=none", "logger=csv")]
    cfg = config("model=cnn", *everything, HUGE, "on_nonfinite=warn", "trainer.max_epochs=2",
                 "~callbacks.progress")  # fmt: skip
    metrics = train(cfg, saved(cfg, tmp_path / "run"))
    assert metrics["batches"] == 8
    assert capfd.readouterr().err.count("training continues (on_nonfinite=warn)") == 1


def test_accelerator_values_are_read_only_at_logging_steps(tmp_path):
    """Reading a value waits for the device: `float` of this loss fails."""

    class Unread:
        device = torch.device("cuda")

        def detach(self):
            raise AssertionError("read")

    batches = SimpleNamespace(total=SimpleNamespace(processed=4))
    loop = SimpleNamespace(
        epoch_loop=SimpleNamespace(batch_progress=batches),
        epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=0)),
    )
    trainer = SimpleNamespace(
        fit_loop=loop,
        log_every_n_steps=10,
        precision_plugin=None,
        current_epoch=0,
        num_training_batches=9,
        max_epochs=1,
    )
    guard = NonFinite(tmp_path, "stop")
    guard.on_train_batch_start(trainer, None, None, 4)
    guard.on_before_backward(trainer, None, Unread())
    guard.on_before_optimizer_step(trainer, None, None)
    batches.total.processed = 9
    guard.on_train_batch_start(trainer, None, None, 9)
    with pytest.raises(AssertionError, match="read"):
        guard.on_before_backward(trainer, None, Unread())
