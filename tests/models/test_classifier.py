"""Classifiers: optimizer groups, the loss, metrics and permuted pixels."""

import csv

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from src.core.errors import UserError
from src.core.randomness import generator
from src.data.sets.digits import Digits
from src.engine import build
from src.models.classifier import Classifier
from src.train import train
from tests.conftest import TINY, saved


def test_images_without_labels_are_refused(config, monkeypatch):
    monkeypatch.setattr(Digits, "labeled", False)
    with pytest.raises(UserError, match="Classifier needs labels, but data=digits has none"):
        build.datamodule(config("model=fc", "data=digits"))


def test_images_of_one_class_are_refused(config, photos):
    one = ("data=folder", f"data.root={photos}", "data.classes=[cats]", "data.size=16")
    with pytest.raises(UserError, match="at least two classes, but data=folder has only one: cats"):
        build.datamodule(config("model=fc", *one))


def test_weight_decay_spares_norms_and_biases(config):
    cfg = config(
        "model=vgg",
        "data=digits",
        "data.size=32",
        "model.optimizer.weight_decay=0.1",
        "model/optimizer=adamw",
    )
    model = build.model(cfg)
    decayed, spared = model.configure_optimizers().param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim > 1 for p in decayed["params"])
    assert len(decayed["params"]) == 8 + 1
    assert (
        len(spared["params"]) == 8 * 3 + 1
    )  # biases of 8 convolutions, weight and bias of their norms, the last bias


def test_norm_biases_have_their_own_learning_rate(config):
    cfg = config(
        "model=vgg",
        "data=digits",
        "data.size=32",
        "model/optimizer=sgd",
        "model.optimizer.lr=0.1",
        "model.norm_bias_lr=8",
    )
    model = build.model(cfg)
    rates = {
        p: group["lr"]
        for group in model.configure_optimizers().param_groups
        for p in group["params"]
    }
    norms = {layer.bias for layer in model.net.modules() if isinstance(layer, nn.BatchNorm2d)}
    assert len(norms) == 8
    assert {rates[p] for p in norms} == {0.8}
    assert {rate for p, rate in rates.items() if p not in norms} == {0.1}
    assert len(rates) == len(list(model.net.parameters()))


def test_auxiliary_heads_are_trained_with_their_weight(config):
    """GoogLeNet's loss is main + 0.3 (both auxiliary), computed again from its three logits."""
    cfg = config(
        "model=googlenet", "data=digits", "data.size=64", "model.label_smoothing=0.2", *TINY
    )
    model = build.model(cfg)
    logits = [torch.randn(4, 10, requires_grad=True) for _ in range(3)]
    model.net.forward = lambda x: tuple(logits)
    model.trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    labels = torch.tensor([1, 5, 9, 0])
    loss = model.training_step((torch.rand(4, 1, 64, 64), labels), 0)["loss"]
    targets = np.full((4, 10), 0.2 / 10)
    targets[np.arange(4), labels] += 0.8
    values = [part.detach().double().numpy() for part in logits]
    parts = [
        -(targets * (v - np.log(np.exp(v).sum(1, keepdims=True)))).sum(1).mean() for v in values
    ]
    assert loss.item() == pytest.approx(parts[0] + 0.3 * (parts[1] + parts[2]), rel=1e-5)
    loss.backward()
    assert all(part.grad.abs().sum() > 0 for part in logits)


def test_loss_of_mixed_images_is_the_cross_entropy_with_their_shares(config, tmp_path, monkeypatch):
    """MixUp (Zhang 2018, eq. 1) with label smoothing, against NumPy; once for the first batch."""
    seen, step = [], Classifier.training_step

    def kept(self, batch, batch_idx):
        logits = self.net.register_forward_hook(lambda *call: seen.append(call[2].detach()))
        outputs = step(self, batch, batch_idx)
        logits.remove()
        seen.extend([batch[1], outputs["loss"].item(), outputs["acc"].item()])
        return outputs

    monkeypatch.setattr(Classifier, "training_step", kept)
    cfg = config("model=fc", "data=digits", *TINY, "augment=mixup", "model.label_smoothing=0.1",
                 "trainer.max_epochs=1", "trainer.log_every_n_steps=1", "test=false")  # fmt: skip
    train(cfg, saved(cfg, tmp_path))
    logits, shares, loss, acc = (np.asarray(one, np.float64) for one in seen[:4])
    assert shares.shape == (32, 10)
    assert np.allclose(shares.sum(1), 1)
    assert ((shares > 0).sum(1) == 2).mean() > 0.5, "two images of different classes are mixed"
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    smooth = 0.9 * shares + 0.1 / 10
    assert loss == pytest.approx(-(smooth * log_p).sum(1).mean(), rel=1e-4)
    assert acc == pytest.approx((logits.argmax(1) == shares.argmax(1)).mean())


def test_test_metrics_equal_numpy(config):
    """Accuracy, accuracy per class, top-5 and loss of an untrained network, against NumPy."""
    cfg = config(
        "model=fc", "data=digits", "model.normalize.mean=0", "model.normalize.std=1", *TINY
    )
    data = build.datamodule(cfg)
    model = build.model(cfg, data)
    trainer = pl.Trainer(
        logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False
    )
    trainer.test(model, datamodule=data, verbose=False)
    with torch.no_grad():
        logits = model(data.test.images.float() / 255).numpy()
    truth, said = data.test.labels.numpy(), logits.argmax(1)
    values = trainer.callback_metrics
    assert values["test/acc"].item() == pytest.approx((truth == said).mean())
    in_five = [label in row.argsort()[-5:] for label, row in zip(truth, logits, strict=True)]
    assert values["test/top5"].item() == pytest.approx(np.mean(in_five))
    for k in range(10):
        assert values[f"test_classes/{k}"].item() == pytest.approx((said[truth == k] == k).mean())
    shifted = logits - logits.max(1, keepdims=True)
    nll = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(truth)), truth]
    assert values["test/loss"].item() == pytest.approx(nll.mean(), rel=1e-4)
    assert model.counts.numpy()[3, 5] == ((truth == 3) & (said == 5)).sum()


def test_metrics_do_not_depend_on_the_batch_size(config, tmp_path):
    """Metrics are computed in eval mode: with BatchNorm in training mode, logits would depend on
    the batch."""
    losses = []
    for size in (7, 100):
        cfg = config(
            "model=vgg",
            "data=digits",
            "model.net.features=[4,M]",
            f"data.eval_batch_size={size}",
            *TINY,
        )
        torch.manual_seed(0)
        data = build.datamodule(cfg)
        model = build.model(cfg, data)
        trainer = build.trainer(cfg, tmp_path)
        trainer.test(model, datamodule=data, verbose=False)
        losses.append(trainer.callback_metrics["test/loss"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_all_images_have_the_same_pixel_permutation(config):
    plain_data, mixed, again = (
        build.datamodule(
            config("data=digits", "model=fc", f"data.permute={permute}", f"seed={seed}")
        )
        for permute, seed in (("false", 0), ("true", 0), ("true", 1))
    )
    order = mixed.permutation
    assert sorted(order.tolist()) == list(range(784))
    assert not torch.equal(order, torch.arange(784))
    assert torch.equal(order, again.permutation), "it depends on split_seed, not on the run's seed"
    for part in ("train", "val", "test"):
        a, b = getattr(plain_data, part).images, getattr(mixed, part).images
        assert torch.equal(a.flatten(2)[:, :, order], b.flatten(2))


def test_the_permutation_is_in_the_checkpoint(permuted_run):
    state = torch.load(permuted_run / "checkpoints" / "last.ckpt", weights_only=True)["Digits"]
    assert torch.equal(state["permutation"], torch.randperm(784, generator=generator(0, "permute")))
    assert state["class_names"] == [str(k) for k in range(10)]


def test_training_accuracy_is_in_every_logged_row(config, tmp_path):
    """Three batches an epoch, a row every second batch: rows are at odd and even batches of an
    epoch."""
    cfg = config(
        "model=fc",
        "data=digits",
        *TINY,
        "data.limit=96",
        "trainer.max_epochs=4",
        "trainer.log_every_n_steps=2",
    )
    train(cfg, tmp_path)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    assert [row["batches"] for row in rows] == ["2", "4", "6", "8", "10", "12"]
    assert all(0 <= float(row["train/acc"]) <= 1 for row in rows)
