"""Explanations against NumPy and SciPy, their effect on training, and the pictures of a run."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.signal import correlate2d
from torch import nn

from src.callbacks.explanations import affordable_images
from src.callbacks.prediction_gallery import PredictionGallery
from src.core import runs
from src.core.errors import UserError
from src.core.randomness import generator
from src.engine import build
from src.nets.cifar import resnet
from src.nets.convnet import convnet
from src.train import train
from src.viz import charts, explain
from tests.conftest import TINY
from tests.engine.interruptions import assert_same


class Pooled(nn.Module):
    """A convolution, a ReLU in place, a mean over all pixels, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 3)
        self.pixel = nn.Conv2d(4, 4, 1)
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.last(self.pixel(self.relu(self.conv(x))).mean((2, 3)))


@pytest.fixture
def pooled():
    torch.manual_seed(0)
    return Pooled().eval()


def test_feature_maps_are_the_outputs_of_convolutions(pooled):
    x = torch.rand(2, 2, 7, 9)
    maps = explain.feature_maps(pooled, x, max_channels=3)
    assert list(maps) == ["conv"]
    weight, bias = pooled.conv.weight.detach().numpy(), pooled.conv.bias.detach().numpy()
    for k in range(3):
        expected = (
            sum(correlate2d(x[1, c].numpy(), weight[k, c], "same") for c in range(2)) + bias[k]
        )
        assert np.allclose(maps["conv"][1, k], expected, atol=1e-5)
    assert maps["conv"].min() < 0, "before the ReLU, although it works in place"
    assert maps["conv"].shape == (2, 3, 7, 9)


def test_feature_maps_are_in_execution_order(pooled):
    assert list(
        explain.feature_maps(
            nn.Sequential(pooled.pixel, nn.Sequential(nn.Conv2d(4, 2, 1))), torch.rand(1, 4, 5, 5)
        )
    ) == [
        "0",
        "1.0",
    ]
    assert not pooled.pixel._forward_hooks


def test_grad_cam_of_pooled_maps_is_their_weighted_sum(pooled):
    """After a mean and a linear layer, alpha is the class weight divided by the pixels."""
    x, classes = torch.rand(5, 2, 6, 6), torch.tensor([0, 1, 2, 1, 0])
    cams = explain.grad_cam(pooled, pooled.pixel, x, classes).numpy()
    maps = pooled.pixel(torch.relu(pooled.conv(x))).detach().numpy()
    weights = pooled.last.weight.detach().numpy()[classes] / 36
    raw = np.maximum((weights[:, :, None, None] * maps).sum(1), 0)
    assert (raw.max((1, 2)) > 0).any()
    expected = raw / np.maximum(raw.max((1, 2), keepdims=True), 1e-12)
    assert np.allclose(cams, expected, atol=1e-4)


def test_grad_cam_uses_the_last_large_rectified_maps():
    x = torch.rand(4, 3, 32, 32)
    vgg = convnet(3, 32, 10, [8, "M", 8, "M", 8, "M", 8, "M", 8], (), 3, 1, "batch").eval()
    assert explain.find_cam_layer(vgg, x) == "relu3"  # its maps are 8 x 8; later ones are smaller
    assert explain.find_cam_layer(resnet(3, 10).eval(), x) == "stage3"
    bare = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert explain.find_cam_layer(bare, x - 0.5) == "0"
    assert explain.find_cam_layer(nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)), x) is None


class Windows(nn.Module):
    """A convolution, and attention between the halves of an image, which are in the batch."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        self.inner, self.drop = nn.Conv2d(4, 4, 3, padding=1), nn.Dropout(0.1)

    def forward(self, x):
        maps = self.relu(self.conv(x))
        halves = self.relu(self.inner(maps.reshape(-1, 4, 16, 32)))
        weights = self.drop(maps.flatten(2).softmax(2).unsqueeze(1))
        return halves.reshape(len(x), -1)[:, :3] + weights.mean((1, 2, 3))[:, None]


def test_maps_of_windows_and_attention_weights_are_not_shown():
    x, net = torch.rand(2, 3, 32, 32), Windows().eval()
    net.inner.requires_grad_(False)
    name = explain.find_cam_layer(net, x)
    assert name == "relu"
    assert list(explain.feature_maps(net, x)) == ["conv"]


def test_grad_cam_of_a_frozen_net(pooled):
    pooled.requires_grad_(False)
    cams = explain.grad_cam(pooled, pooled.conv, torch.rand(2, 2, 6, 6), torch.tensor([0, 1]))
    assert cams.shape == (2, 6, 6)
    assert cams.max() == pytest.approx(1)


def test_maximized_image_of_a_linear_net_is_known():
    """White where the weight is positive, black where it is negative."""
    weight = torch.randn(3, 75, generator=generator(0))
    weight = weight.sign() * (weight.abs() + 0.1)
    best = explain.maximize_classes(
        lambda x: x.flatten(1) @ weight.T,
        torch.tensor([2, 0]),
        (3, 5, 5),
        generator(1),
        tv_weight=0,
        jitter=0,
    )
    assert torch.equal(best.flatten(1), (weight[[2, 0]] > 0).float())


def test_tv_weight_makes_neighbors_similar():
    weight = torch.randn(1, 300, generator=generator(0))
    rough, smooth = (
        explain.maximize_classes(
            lambda x: x.flatten(1) @ weight.T,
            torch.tensor([0]),
            (3, 10, 10),
            generator(1),
            tv_weight=s,
        )
        for s in (0.0, 300.0)
    )
    assert smooth.diff(dim=2).abs().mean() < 0.5 * rough.diff(dim=2).abs().mean()


@pytest.mark.parametrize(("side", "n"), [(28, 10), (114, 10), (224, 2), (2000, 1)])
def test_fewer_large_images_are_maximized(side, n):
    assert affordable_images(side, side) == n


SEEN = (*TINY, "model=vgg", "model.net.features=[4,M,6,M]", "model.net.dropout=[0,0.5]",
        "model.net.hidden_dims=[8]",
        "data.val_size=30", "trainer.max_epochs=2", "model.ema=0.5",
        "data.eval_batch_size=16")  # fmt: skip
DEFAULT = ("callbacks=default", "logger=default", "callbacks.filters.every_n_batches=2",
           "callbacks.explanations.every_n_batches=3",
           "callbacks.explanations.n_classes=4")  # fmt: skip


@pytest.fixture(scope="module")
def seen_run(tmp_path_factory):
    from src.config.checks import check
    from src.config.compose import compose

    folder = tmp_path_factory.mktemp("seen")
    cfg = compose("train", [*SEEN, *DEFAULT])
    check(cfg)
    train(cfg, folder)
    return folder


def test_explanations_do_not_change_training(seen_run, config, tmp_path):
    train(config(*SEEN), tmp_path)
    watched, unwatched = (
        runs.load_checkpoint(folder / "checkpoints" / "last.ckpt")
        for folder in (seen_run, tmp_path)
    )
    assert_same(watched["state_dict"], unwatched["state_dict"])


def test_run_writes_its_pictures(seen_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    made = {path.name for path in (seen_run / "images").iterdir()}
    assert made == {
        "feature_maps.png", "grad_cam.png", "maximized.png", "test_mistakes.png",
        "test_confusion.png", "test_classes.png", "curves.png",
        "filters.gif", *(f"filters_{n:08d}.png" for n in (0, 2, 4, 6, 8)),
    }  # fmt: skip
    assert Image.open(seen_run / "images" / "filters.gif").n_frames == 5
    events = EventAccumulator(str(seen_run), {"images": 0})
    events.Reload()
    tags = set(events.Tags()["images"])
    assert {
        "feature_maps/conv1",
        "feature_maps/conv2",
        "grad_cam",
        "maximized",
        "filters/net.conv1",
    } <= tags
    assert {"val_mistakes", "val_confusion", "val_classes", "test_confusion"} <= tags
    assert [event.step for event in events.Images("feature_maps/conv1")] == [1, 3, 6, 8]
    assert [event.step for event in events.Images("val_confusion")] == [4, 8]


def test_early_stopped_run_draws_its_last_predictions(config, tmp_path, monkeypatch):
    """No epoch improves on epoch 1, so patience ends the run at epoch 3, which is not a power of
    two."""
    due = []
    monkeypatch.setattr(
        PredictionGallery, "_draw", lambda self, trainer, model, stage, due_now: due.append(due_now)
    )
    cfg = config(*SEEN, "callbacks=[default,early_stopping]",
                 "callbacks.early_stopping.patience=2", "data.limit=40",
                 "callbacks.early_stopping.min_delta=1e9", "trainer.max_epochs=9",
                 "test=false")  # fmt: skip
    train(cfg, tmp_path)
    assert due == [True, True, True]


def test_class_without_images_has_no_bar(config, tmp_path, monkeypatch):
    bars, drawn = charts.draw_bars, []
    monkeypatch.setattr(
        charts, "draw_bars", lambda *args, **more: drawn.append((args, more)) or bars(*args, **more)
    )
    cfg = config(*SEEN, *DEFAULT, "data.limit=4", "data.val_size=0", "trainer.max_epochs=1")
    train(cfg, tmp_path)
    values = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    shares = {
        name.removeprefix("test_classes/"): value
        for name, value in values.items()
        if name.startswith("test_classes/")
    }
    held = list(shares)
    assert None not in shares.values()
    assert held == [str(label) for label in sorted(set(build.datamodule(cfg).test.labels.tolist()))]
    ((in_class, title), more) = drawn[-1]
    assert title.startswith("test")
    assert [name.partition(" ")[0] for name in more["names"]] == held
    assert in_class == pytest.approx([shares[name] for name in held])


def test_prediction_gallery_shows_the_worst_mistakes_first(config, tmp_path, monkeypatch):
    """The test images with the lowest probability of the true class, as NumPy sorts them."""
    kept = []
    monkeypatch.setattr(
        PredictionGallery, "_draw", lambda self, trainer, model, stage, due: kept.append(self.worst)
    )
    cfg = config(
        *SEEN,
        "+callbacks.predictions._target_=src.callbacks.prediction_gallery.PredictionGallery",
        "+callbacks.predictions.n=20",
    )
    torch.manual_seed(0)
    data = build.datamodule(cfg)
    model = build.model(cfg, data)
    build.trainer(cfg, tmp_path).test(model, datamodule=data, verbose=False)
    images, true, predicted, probability, _ = kept[0]
    with torch.no_grad():
        shares = model.eval()(data.test.images.float() / 255).softmax(1).numpy()
    expected = shares[np.arange(100), data.test.labels]
    order = expected.argsort()[:20]
    assert np.allclose(probability, expected[order], atol=1e-6)
    assert torch.equal(true, data.test.labels[order])
    assert predicted.tolist() == shares[order].argmax(1).tolist()
    assert torch.equal((images * 255).round().byte(), data.test.images[order])


def test_missing_layer_is_named(config, tmp_path):
    cfg = config(*SEEN, "callbacks=default", "callbacks.filters.layer=net.conv9")
    with pytest.raises(
        UserError, match=r"callbacks\.filters\.layer=net\.conv9 .* net\.conv1, net\.conv2$"
    ):
        train(cfg, tmp_path)
