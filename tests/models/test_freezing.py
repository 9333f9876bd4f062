"""Frozen layers stay bit-equal until they are unfrozen; learning rates of the other layers."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from src.config.checks import check
from src.config.compose import compose
from src.core.errors import UserError
from src.engine.instantiate import instantiate_node
from src.evaluate import evaluate
from src.models.classifier import Classifier
from src.nets.inspect import count_parameters
from src.train import train
from tests.conftest import call, saved
from tests.engine.interruptions import assert_same_run, interrupted_and_resumed
from tests.models.transfer import TARGET, started, state_of


@pytest.fixture(scope="module")
def frozen_run(five_classes, backbone, tmp_path_factory):
    """A run on frozen features, with every callback that looks at the network."""
    top = tmp_path_factory.mktemp("frozen")
    left_out = [
        f"~callbacks.{name}"
        for name in ("quality", "samples", "canvases", "weights", "filters", "predictions")
    ]
    shown = ("callbacks=default", "logger=default", *left_out,
             "callbacks.explanations.every_n_batches=1",
             "callbacks.explanations.n_classes=0", "callbacks.explanations.n=1",
             "callbacks.explanations.max_layers=1")  # fmt: skip
    source = shutil.copytree(backbone, top / "source")
    begin = (
        f"data.root={five_classes}",
        f"model.init_from={source}",
        "model.transfer.freeze=backbone",
        "model.ema=0",
    )
    cfg = compose("train", [*TARGET, *begin, "test=true", "trainer.max_epochs=2", *shown])
    check(cfg)
    metrics = train(cfg, saved(cfg, top / "run"))
    shutil.rmtree(source)
    return top / "run", metrics


def test_frozen_weights_stay_bit_equal(frozen_run, backbone, transfer_config):
    """Parameters, BatchNorm's buffers, mean and std stay, although pictures and graphs change
    modes; the head learns."""
    before, after = state_of(backbone), state_of(frozen_run[0])
    kept = [
        name.removeprefix("net.")
        for name in after
        if name.startswith("net.") and not name.startswith("net.fc1.")
    ]
    assert "norm1.running_mean" in kept
    assert "norm1.num_batches_tracked" in kept
    for name in kept:
        assert torch.equal(after[f"net.{name}"], before[f"average.module.{name}"]), name
    assert torch.equal(after["mean"], before["mean"])
    assert not torch.equal(after["net.fc1.weight"], started(transfer_config())[0].net.fc1.weight)


def test_log_has_the_number_of_trained_parameters(frozen_run):
    folder, metrics = frozen_run
    log = (folder / "train.log").read_text()
    head, rest = (8 * 2 * 2 + 1) * 2, (3 * 9 + 1) * 4 + 2 * 4 + (4 * 9 + 1) * 8 + 2 * 8
    assert f"{head} of {head + rest} parameters" in log
    assert "newly initialized for 2 classes: fc1" in log
    assert metrics["parameters"] == head


def test_finished_run_does_not_need_its_source(frozen_run):
    folder, metrics = frozen_run
    assert call("evaluate", evaluate, f"run={folder}")["test/acc"] == metrics["test/acc"]


def test_parameter_counts_of_a_frozen_resnet50(config):
    """(2,048 features + 1) x 2 classes.

    All of ResNet-50: torchvision's 25,557,032 with a head for 2 instead of 1,000 classes.
    """
    cfg = config("model=resnet50", "data=folder", "data.root=x", "data.num_classes=2",
                 "model.init_from=pretrained",
                 "model.transfer.freeze=backbone", "model.ema=0.9")  # fmt: skip
    with torch.device("meta"):
        model = instantiate_node(cfg.model, "model")
    assert count_parameters(model) == (4_098, 25_557_032 - 2_049 * 1_000 + 4_098)


@pytest.mark.parametrize("decay_all", [True, False])
def test_backbone_rate_is_a_fraction_of_the_heads_rate_at_every_batch(
    transfer_config, tmp_path, monkeypatch, decay_all
):
    cfg = transfer_config("model/schedule=cosine", "model.optimizer.lr=0.5",
                   "model.transfer.backbone_lr=0.02", f"model.decay_all={decay_all}",
                   "model.transfer.freeze=2", "model.transfer.unfreeze_epoch=1")  # fmt: skip
    seen, step = [], Classifier.training_step

    def noted(self, batch, batch_idx):
        head_ids = {id(p) for p in self.net.fc1.parameters()}
        groups = self.trainer.optimizers[0].param_groups
        seen.append(
            {({id(p) for p in group["params"]} <= head_ids, group["lr"]) for group in groups}
        )
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", noted)
    train(cfg, tmp_path)
    rates = [0.5 * 0.5 * (1 + np.cos(np.pi * i / 12)) for i in range(12)]
    for found, rate in zip(seen, rates, strict=True):
        assert len(found) == 2
        assert dict(found) == pytest.approx({True: rate, False: rate * 0.02})


UNFREEZING = ("model.transfer.freeze=3", "model.transfer.unfreeze_epoch=1", "model/schedule=cosine")


@pytest.fixture(scope="module", params=["sgd", "adam"])
def unfreezing(five_classes, backbone, tmp_path_factory, request):
    """An uninterrupted run that freezes its first three layers for an epoch, and the file that it
    starts from."""
    top = tmp_path_factory.mktemp("unfreezing")
    shutil.copy(backbone / "checkpoints" / "last.ckpt", top / "source.ckpt")
    cfg = compose("train", [*TARGET, f"data.root={five_classes}",
                            f"model.init_from={top / 'source.ckpt'}",
                            *UNFREEZING, f"model/optimizer={request.param}"])  # fmt: skip
    check(cfg)
    train(cfg, saved(cfg, top / "uninterrupted"))
    return cfg, top


@pytest.mark.parametrize("cut", [2, 4, 5, 7])
def test_resume_before_and_after_unfreezing_is_bit_exact(unfreezing, tmp_path, monkeypatch, cut):
    """The optimizer's state of the frozen layers is restored too.

    The source file is gone when the run is resumed.
    """
    cfg, top = unfreezing
    cfg = cfg.copy()
    moved = shutil.copy(top / "source.ckpt", tmp_path / "source.ckpt")

    def without_source(cfg, folder):
        if cfg.resume:
            Path(moved).unlink()
        return train(cfg, folder)

    monkeypatch.setattr("tests.engine.interruptions.train", without_source)
    cfg.model.init_from = str(moved)
    folder = interrupted_and_resumed(Classifier, cfg, tmp_path, monkeypatch, cut)
    assert not Path(moved).exists()
    assert_same_run(top / "uninterrupted", folder)


def test_unfrozen_layers_learn_from_their_epoch_on(transfer_config, tmp_path, monkeypatch):
    """After that epoch and not before: parameters, BatchNorm's buffers, those of the average, and
    the dropout after them."""
    found, step = [], Classifier.training_step

    def noted(self, batch, batch_idx):
        net = self.net
        parts = [
            part
            for where in (net, self.average.module)
            for part in (where.conv1.weight, where.norm1.running_mean)
        ]
        found.append(
            (*(part.detach().clone() for part in parts), net.norm1.training, net.dropout1.training)
        )
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", noted)
    train(transfer_config("model.transfer.freeze=4", "model.transfer.unfreeze_epoch=1"), tmp_path)
    assert "after epoch 1, " in (tmp_path / "train.log").read_text()
    *values, norms, dropouts = zip(*found, strict=True)
    assert norms == dropouts == (False,) * 4 + (True,) * 8
    for part in values:
        same = [torch.equal(a, b) for a, b in itertools.pairwise(part)]
        assert same == [True] * 4 + [False] * 7


EARLY = ("model.freeze_early=[0.25,0.5]", "model/optimizer=muon")


@pytest.fixture(scope="module")
def early(five_classes, tmp_path_factory):
    """An uninterrupted run that freezes conv1 after 3 of its 12 batches and norm1 after 6."""
    top = tmp_path_factory.mktemp("early")
    cfg = compose("train", [*TARGET, f"data.root={five_classes}", *EARLY])
    check(cfg)
    metrics = train(cfg, saved(cfg, top / "uninterrupted"))
    return cfg, top / "uninterrupted", metrics


@pytest.mark.parametrize("cut", [2, 3, 4, 6, 9])
def test_resume_before_and_after_freezing_is_bit_exact(early, tmp_path, monkeypatch, cut):
    cfg, uninterrupted, _ = early
    folder = interrupted_and_resumed(Classifier, cfg.copy(), tmp_path, monkeypatch, cut)
    assert_same_run(uninterrupted, folder)


def test_parts_frozen_early_keep_the_averaged_weights(early, tmp_path, monkeypatch):
    """From their batch on and not before: parameters, BatchNorm's buffers, and the gradients."""
    found, averages, step = [], [], Classifier.training_step

    def noted(self, batch, batch_idx):
        net, average = self.net, self.average.module
        parts = net.conv1.weight, net.norm1.bias, net.norm1.running_mean, net.conv2.weight
        found.append([part.detach().clone() for part in parts])
        averages.append([average.conv1.weight.clone(), average.norm1.running_mean.clone()])
        trained = {name for name, p in net.named_parameters() if p.requires_grad}
        frozen = {"conv1": len(found) > 3, "norm1": len(found) > 6, "conv2": False}
        assert {name: f"{name}.weight" not in trained for name in frozen} == frozen
        assert net.norm1.training == (len(found) <= 6)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", noted)
    train(early[0].copy(), tmp_path)
    log = (tmp_path / "train.log").read_text()
    assert "after 25% of the run, conv1 is no longer trained" in log
    assert "after 50% of the run, norm1 is no longer trained" in log
    changed = [
        [not torch.equal(a, b) for a, b in itertools.pairwise(part)]
        for part in zip(*found, strict=True)
    ]
    # the last change is that to the average
    assert changed == [
        [True] * 3 + [False] * 8,
        [True] * 6 + [False] * 5,
        [True] * 6 + [False] * 5,
        [True] * 11,
    ]
    assert torch.equal(found[3][0], averages[3][0])
    assert torch.equal(found[6][2], averages[6][1])


def test_parts_frozen_early_count_as_trained(early):
    _, _, metrics = early
    assert metrics["parameters"] == (3 * 9 + 1) * 4 + 8 + (4 * 9 + 1) * 8 + 16 + (8 * 4 + 1) * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("model.freeze_early=[0,0.1,0.2,0.3,0.4]",),
            "at most 4, because the network has 5 parts and the last one is always trained: "
            "conv1, norm1, conv2, norm2, fc1",
        ),
        (("model.freeze_early=[0.5,0.2]",), "a number is below the one before"),
        (
            ("model.freeze_early=[0.5]", "model.transfer.freeze=2"),
            r"freeze_early=\[0.5\] and transfer.freeze=2 exclude each other",
        ),
    ],
)
def test_wrong_fractions_are_refused(five_classes, backbone, settings, message):
    cfg = compose("train", [*TARGET, f"data.root={five_classes}", f"model.init_from={backbone}",
                            *settings])  # fmt: skip
    check(cfg)
    with pytest.raises(UserError, match=message):
        started(cfg)
