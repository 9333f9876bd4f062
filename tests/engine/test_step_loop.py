"""Our step of one optimizer does what Lightning's does, bit for bit and hook for hook."""

import csv

import pytest
import pytorch_lightning as pl
import torch

from src.engine import build, step_loop
from src.engine.hooks import BATCH_HOOKS, skip_empty_hooks
from tests.conftest import TINY


class Recorder(pl.Callback):
    """Note the hooks that are called."""

    def __init__(self):
        self.called = []
        for name in BATCH_HOOKS:
            setattr(self, name, lambda *args, name=name: self.called.append(name))


def fitted(cfg, folder):
    """Train; return the hooks that were called, and the checkpoint."""
    recorder = Recorder()
    data = build.datamodule(cfg)
    torch.manual_seed(0)
    model, trainer = build.model(cfg, data), build.trainer(cfg, folder, recorder)
    trainer.fit(model, datamodule=data)
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return recorder.called, saved


@pytest.mark.parametrize(
    "settings",
    [
        ["trainer.precision=bf16-mixed", "model.ema=0.9"],
        ["trainer.precision=32-true", "trainer.gradient_clip_val=0.01"],
        ["trainer.precision=32-true", "trainer.accumulate_grad_batches=2"],
    ],
)
def test_step_equals_lightnings_to_the_bit(config, tmp_path, monkeypatch, settings):
    cfg = config(*TINY, "model=fc", "callbacks=none", "trainer.max_epochs=1", *settings)
    called, ours = fitted(cfg, tmp_path / "ours")
    monkeypatch.setattr(step_loop, "is_simple", lambda trainer: False)
    expected, theirs = fitted(cfg, tmp_path / "lightning")
    assert called == expected
    assert {"on_before_backward", "on_train_batch_end"} <= set(called)
    assert ours["loops"] == theirs["loops"]
    for name, weights in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], weights), name


def test_only_simple_runs_take_our_step(config, tmp_path):
    simple = ("model=fc", "trainer.accelerator=cpu")
    for settings, expected in (
        ((), True),
        (("trainer.precision=bf16-mixed",), True),
        (("trainer.accumulate_grad_batches=2",), False),
        (("trainer.devices=2", "trainer.strategy=ddp"), False),
    ):
        trainer = build.trainer(config(*simple, *settings), tmp_path)
        assert step_loop.is_simple(trainer) == expected, settings


def test_hooks_that_a_callback_overrides_are_kept():
    class Ends(pl.Callback):
        def on_train_batch_end(self, *args):
            return "called"

    callback, recorder = Ends(), Recorder()
    skip_empty_hooks(callback)
    skip_empty_hooks(recorder)
    assert callback.on_train_batch_end() == "called"
    assert callback.on_after_backward is None
    assert "on_train_epoch_end" not in vars(callback), "it is not a hook of a batch"
    assert all(getattr(recorder, name) is not None for name in BATCH_HOOKS)


def test_callbacks_may_log_in_every_hook(config, tmp_path):
    class Logs(pl.Callback):
        def on_before_backward(self, trainer, model, loss):
            model.log("before_backward", loss.detach())

        def on_before_optimizer_step(self, trainer, model, optimizer):
            model.log("before_step", 2.0)

    cfg = config(*TINY, "model=fc", "callbacks=none", "trainer.max_epochs=1")
    data = build.datamodule(cfg)
    trainer = build.trainer(cfg, tmp_path, Logs())
    trainer.fit(build.model(cfg, data), datamodule=data)
    assert trainer.callback_metrics["before_step"] == 2
    assert trainer.callback_metrics["before_backward"] > 0


def test_accumulation_that_starts_later_is_followed(config, tmp_path):
    from pytorch_lightning.callbacks import GradientAccumulationScheduler

    cfg = config(*TINY, "model=fc", "callbacks=none", "trainer.max_epochs=2")
    data = build.datamodule(cfg)
    trainer = build.trainer(cfg, tmp_path, GradientAccumulationScheduler({0: 1, 1: 2}))
    trainer.fit(build.model(cfg, data), datamodule=data)
    batches = trainer.num_training_batches
    assert batches > 1
    assert trainer.global_step == batches + -(-batches // 2)


def test_accumulated_batches_are_logged_at_the_batch_with_their_loss(config, tmp_path):
    """Steps are fewer than batches: 2 in an epoch of 4 batches."""
    cfg = config(*TINY, "data=digits", "model=vae", "trainer.accumulate_grad_batches=3",
                 "data.val_size=20", "trainer.log_every_n_steps=3",
                 "trainer.max_epochs=2")  # fmt: skip
    data = build.datamodule(cfg)
    build.trainer(cfg, tmp_path).fit(build.model(cfg, data), datamodule=data)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = {int(row["batches"]): row for row in csv.DictReader(file)}
    assert [n for n, row in rows.items() if row["val/bound_nats"]] == [4, 8]
    for n in (3, 6):
        bound = float(rows[n]["train/bound_nats"])
        assert float(rows[n]["train/loss"]) == pytest.approx(bound), "the loss of a VAE"
