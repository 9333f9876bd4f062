"""Classifiers: parameter counts of the papers, sizes that do not fit, the loss, scaling, metrics,
permuted pixels."""

import csv

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from scipy.stats import binomtest
from torch import nn

from src.core.errors import UserError
from src.core.randomness import generator
from src.data.sets.digits import Digits
from src.engine import build
from src.engine.checks import why_input_size_fails
from src.engine.instantiate import instantiate_node
from src.metrics.intervals import wilson
from src.models.deployed import DeployedClassifier
from src.nets.cifar import Block, densenet_bc, resnet
from src.nets.convnet import convnet
from src.nets.init import whiten
from src.train import train
from tests.conftest import TINY, saved, weights_of

COUNTS = {  # the spec's, and torchvision's own pages' at 1,000 classes
    ("fc", "data=mnist"): 6_442,
    ("cnn", "data=mnist"): 6_422,
    ("lenet", "data=cifar10"): 62_006,
    ("vgg", "data=cifar10"): 9_231_114,
    ("resnet20", "data=cifar10"): 269_722,
    ("densenet_bc100", "data=cifar10"): 769_162,
    ("petnet", "data=folder", "data.root=.", "data.size=224", "data.num_classes=2"): 102_827_554,
    ("alexnet", "data=folder", "data.root=.", "data.size=224", "data.num_classes=1000"): 61_100_840,
    (
        "resnet18",
        "data=folder",
        "data.root=.",
        "data.size=224",
        "data.num_classes=1000",
    ): 11_689_512,
    (
        "resnet50",
        "data=folder",
        "data.root=.",
        "data.size=224",
        "data.num_classes=1000",
    ): 25_557_032,
    (
        "densenet121",
        "data=folder",
        "data.root=.",
        "data.size=224",
        "data.num_classes=1000",
    ): 7_978_856,
    ("vgg16", "data=folder", "data.root=.", "data.size=224", "data.num_classes=1000"): 138_357_544,
    ("vgg19", "data=folder", "data.root=.", "data.size=224", "data.num_classes=1000"): 143_667_240,
}


@pytest.mark.parametrize("given", COUNTS, ids=lambda given: given[0])
def test_parameter_counts(config, given):
    name, *rest = given
    cfg = config(f"model={name}", *rest)
    with torch.device("meta"):
        net = instantiate_node(cfg.model.net, "net")
    assert sum(p.numel() for p in net.parameters()) == COUNTS[given]


def test_the_papers_residual_block():
    """He 2015, option A, against its definition in NumPy: x[::2, ::2] and zeros for the channels
    that are new."""
    torch.manual_seed(0)
    block = Block(4, 8, stride=2).eval()
    nn.init.zeros_(block.norm2.weight)  # nothing but what is carried is left
    x = torch.randn(2, 4, 6, 6)
    expected = np.zeros((2, 8, 3, 3), np.float32)
    expected[:, 2:6] = np.maximum(x.numpy()[:, :, ::2, ::2], 0)
    assert np.allclose(block(x).detach(), expected)


@pytest.mark.parametrize(("make", "depth"), [(resnet, 21), (densenet_bc, 99)])
def test_a_depth_that_no_paper_has_is_refused(make, depth):
    with pytest.raises(ValueError, match=f"depth={depth}"):
        make(3, 10, depth=depth)


def test_no_relu_on_the_logits():
    net = convnet(1, 28, 10, ["M", 6], [50])
    assert isinstance(net[-1], nn.Linear)
    assert (net(torch.randn(64, 1, 28, 28)) < 0).any()


@pytest.mark.parametrize(
    ("name", "size", "smallest"),
    [("cnn", 13, 16), ("lenet", 8, 16), ("alexnet", 32, 63), ("vgg", 31, 32)],
)
def test_a_size_that_does_not_fit_names_the_smallest_that_does(config, name, size, smallest):
    cfg = config(f"model={name}", "data=digits", f"data.size={size}")
    with pytest.raises(
        UserError,
        match=rf"data\.size={size} does not fit .*the smallest that works is data\.size={smallest} ",
    ):
        build.model(cfg)
    net = build.model_settings(cfg, {})["net"]
    assert why_input_size_fails(cfg, net, smallest) is None
    assert "too small" in why_input_size_fails(cfg, net, smallest - 1)


def test_what_is_not_the_sizes_fault_is_not_said_to_be(config):
    with pytest.raises(UserError, match=r"^model\.net: depth=21: a CIFAR ResNet has"):
        build.model(config("model=resnet20", "data=digits", "model.net.depth=21"))
    with pytest.raises(
        UserError,
        match=r"^data\.batch_size=1 does not fit .*Expected more than 1 value per channel",
    ):
        build.model(config("model=resnet18", "data=digits", "data.size=32", "data.batch_size=1"))
    build.model(config("model=resnet18", "data=digits", "data.size=64", "data.batch_size=1"))


def test_one_dropout_is_for_both_places():
    net = convnet(1, 28, 10, [6, "M", "D"], [50], dropout=0.3)
    assert [layer.p for layer in net if isinstance(layer, nn.Dropout)] == [0.3, 0.3]


def test_images_without_labels_are_refused(config, monkeypatch):
    monkeypatch.setattr(Digits, "labeled", False)
    with pytest.raises(UserError, match="Classifier needs labels, but data=digits has none"):
        build.datamodule(config("model=fc", "data=digits"))


def test_wilson_against_scipy():
    for successes, n in ((0, 10), (7, 10), (10, 10), (9_600, 10_000)):
        interval = binomtest(successes, n).proportion_ci(method="wilson")
        assert wilson(successes, n) == pytest.approx((interval.low, interval.high), abs=1e-12)


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


def test_the_biases_of_norms_have_a_rate_of_their_own(config):
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


def test_mirrored_answers_are_the_mean_of_two_also_for_others(config):
    cfg = config(
        "model=lenet",
        "data=digits",
        "model.tta.flip=true",
        "model.normalize.mean=0.4",
        "model.normalize.std=0.5",
        *TINY,
    )
    model = build.model(cfg).eval()
    images = torch.rand(5, 1, 28, 28)
    x = (images - 0.4) / 0.5
    expected = (model.net(x) + model.net(torch.from_numpy(x.numpy()[..., ::-1].copy()))) / 2
    assert torch.allclose(model(images), expected, atol=1e-6)
    assert torch.allclose(DeployedClassifier(model, None)(images), expected, atol=1e-6)
    assert not torch.allclose(model(images), model.net(x), atol=1e-3)
    assert torch.allclose(model.train()(images), model.net(x), atol=1e-6)


@pytest.mark.parametrize("mirror", [False, True])
def test_shifted_answers_are_those_of_an_image_and_of_two_moved_ones(config, mirror):
    given = (
        "model.tta.shift=2",
        f"model.tta.flip={str(mirror).lower()}",
        "model.normalize.mean=0.4",
        "model.normalize.std=0.5",
    )
    model = build.model(config("model=lenet", "data=digits", *given, *TINY)).eval()
    images = torch.rand(5, 1, 28, 28)
    x, expected = ((images - 0.4) / 0.5).numpy(), 0
    for weight, by in ((0.5, 0), (0.25, -2), (0.25, 2)):
        moved = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), "reflect")[
            ..., 2 - by : 30 - by, 2 - by : 30 - by
        ]
        views = [moved, moved[..., ::-1]] if mirror else [moved]
        expected += weight * np.mean(
            [model.net(torch.from_numpy(view.copy())).detach().numpy() for view in views], 0
        )
    assert np.allclose(model(images).detach(), expected, atol=1e-6)
    assert np.allclose(DeployedClassifier(model, None)(images).detach(), expected, atol=1e-6)
    assert not np.allclose(
        model(images).detach(), model.net(torch.from_numpy(x)).detach(), atol=1e-3
    )


def test_a_whitened_first_layer_is_the_averages_too_and_of_training_images(config):
    cfg = config(
        "model=lenet", "data=digits", "model.normalize.whiten=true", "model.ema=0.9", *TINY
    )
    data = build.datamodule(cfg)
    model = build.model(cfg, data)
    data.test.images.fill_(255)
    expected = nn.Conv2d(1, 6, 5)
    images, _ = data.eval_images(data.train, torch.arange(len(data.train)))
    whiten(expected, (images - images.mean()) / images.std())
    model.trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    model.trainer.datamodule = data
    model.setup("fit")
    assert torch.allclose(model.net.conv1.weight, expected.weight, atol=1e-3)
    assert torch.equal(model.average.module.conv1.weight, model.net.conv1.weight)


def test_a_net_without_convolutions_is_not_whitened(config):
    with pytest.raises(UserError, match="whiten=true, but the net has no convolution"):
        build.model(config("model=fc", "data=digits", "model.normalize.whiten=true", *TINY))


def test_auxiliary_heads_are_trained_and_weigh_their_share(config):
    """GoogLeNet's loss is main + 0.3 (both auxiliary), computed anew from its three logits."""
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


def test_images_are_scaled_by_the_training_images_alone(config):
    """mean: null is theirs, not the test's, and evaluation keeps it."""
    cfg = config("model=fc", "data=digits", "trainer.max_epochs=1", *TINY)
    data = build.datamodule(cfg)
    model = build.model(cfg, data)
    data.test.images.fill_(255)
    trainer = pl.Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        accelerator="cpu",
        enable_progress_bar=False,
    )
    model.train_dataloader = data.train_dataloader
    trainer.fit(model, datamodule=data)
    pixels = data.train.images.numpy() / 255.0
    assert model.mean.item() == pytest.approx(pixels.mean(), rel=1e-5)
    assert model.std.item() == pytest.approx(pixels.std(), rel=1e-5)


def test_a_channel_that_never_changes_is_not_divided_by_nothing(config, tmp_path):
    """Images whose blue is 0 throughout."""
    noise = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for i in range(6):
            pixels = noise.integers(0, 256, (8, 8, 3), dtype=np.uint8) * np.array(
                [1, 1, 0], np.uint8
            )
            Image.fromarray(pixels).save(tmp_path / "in" / name / f"{i}.png")
    cfg = config("model=fc", "data=folder", f"data.root={tmp_path / 'in'}", "data.size=8",
                 "data.test_size=2", *TINY,
                 "trainer.max_epochs=1", "data.val_size=0")  # fmt: skip
    assert np.isfinite(train(cfg, saved(cfg, tmp_path / "run"))["test/loss"])
    assert weights_of(tmp_path / "run")["std"][2] == 1


@pytest.mark.parametrize(("channels", "mean"), [(1, "[0.1,0.2]"), (3, "[0.1,0.2]")])
def test_a_mean_of_other_channels_is_refused(config, channels, mean):
    with pytest.raises(UserError, match=f"mean has 2 values for images of {channels} channels"):
        build.model(
            config(
                "model=fc",
                "data=digits",
                f"data.channels={channels}",
                f"model.normalize.mean={mean}",
                *TINY,
            )
        )


def test_metrics_of_a_known_answer(config):
    """A net that says of each image what its brightest pixel tells: accuracy, per class and top-5
    against NumPy."""
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


def test_measures_know_no_batch(config, tmp_path):
    """In eval mode: with BatchNorm left in training an image's answer would depend on the images
    beside it."""
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


def test_permuted_pixels_are_one_permutation_for_all(config):
    plain_data, mixed, again = (
        build.datamodule(
            config("data=digits", "model=fc", f"data.permute={permute}", f"seed={seed}")
        )
        for permute, seed in (("false", 0), ("true", 0), ("true", 1))
    )
    order = mixed.permutation
    assert sorted(order.tolist()) == list(range(784))
    assert not torch.equal(order, torch.arange(784))
    assert torch.equal(order, again.permutation), "of split_seed, not of the run's seed"
    for part in ("train", "val", "test"):
        a, b = getattr(plain_data, part).images, getattr(mixed, part).images
        assert torch.equal(a.flatten(2)[:, :, order], b.flatten(2))


def test_the_permutation_is_in_the_checkpoint(permuted_run):
    state = torch.load(permuted_run / "checkpoints" / "last.ckpt", weights_only=True)["Digits"]
    assert torch.equal(state["permutation"], torch.randperm(784, generator=generator(0, "permute")))
    assert state["class_names"] == [str(k) for k in range(10)]


def test_the_accuracy_of_training_is_in_every_row_that_is_logged(config, tmp_path):
    """Three batches an epoch, a row every other: rows stand at odd and at even places of their
    epochs."""
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
