"""Test-time augmentation: averaged logits, and the accuracy without it."""

import numpy as np
import pytest
import torch

from src.config.checks import check
from src.config.compose import compose
from src.core.errors import UserError
from src.engine import build
from src.engine.load import load_run
from src.metrics.intervals import wilson
from src.models.deployed import DeployedClassifier
from src.train import train
from tests.conftest import TINY, saved


def test_views_of_permuted_pixels_are_refused():
    with pytest.raises(
        UserError, match=r"data\.permute scatters the pixels, so flipped or shifted"
    ):
        check(compose("train", ["model=cnn", "data.permute=true", "model.tta.flip=true"]))


@pytest.mark.parametrize("views", ["model.tta.flip=true", "model.tta.shift=2", "model.tta.shift=0"])
def test_accuracy_without_augmentation_is_logged_too(config, tmp_path, views):
    """Against NumPy from the net's own logits, with Wilson's interval; without augmentation it is
    not logged."""
    cfg = config("model=lenet", "data=digits", views, "trainer.max_epochs=2", *TINY)
    values = train(cfg, saved(cfg, tmp_path / "run"))
    names = {name for name in values if "single_view" in name}
    if views == "model.tta.shift=0":
        assert not names
        return
    assert names == {
        f"{stage}/acc_single_view{end}"
        for stage in ("val", "test")
        for end in ("", "_low", "_high")
    }
    _, model, _ = load_run(tmp_path / "run")
    data = build.datamodule(cfg)
    images, labels = data.eval_images(data.test, torch.arange(len(data.test)))
    single = model.net(model.scaled(images)).argmax(1)
    right, n = int((single == labels).sum()), len(labels)
    assert values["test/acc_single_view"] == pytest.approx(right / n, abs=1e-6)
    bounds = [values[f"test/acc_single_view_{end}"] for end in ("low", "high")]
    assert bounds == pytest.approx(wilson(right, n))
    all_views = float((model(images).argmax(1) == labels).double().mean())
    assert values["test/acc"] == pytest.approx(all_views)


def test_single_view_needs_no_extra_forward_pass(config, tmp_path, monkeypatch):
    cfg = config("model=lenet", "data=digits", "model.tta.flip=true", "model.tta.shift=1", *TINY)
    model = build.model(cfg).eval()
    calls = []
    model.net.register_forward_hook(lambda module, args, out: calls.append(len(args[0])))
    monkeypatch.setattr(model, "log_means", lambda *args, **kwargs: None)
    model._measure((torch.rand(4, 1, 28, 28), torch.arange(4)), "test")
    assert calls == [4] * 6


def test_tta_flip_averages_the_logits_of_both_views(config):
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
def test_tta_shift_averages_the_logits_of_the_moved_views(config, mirror):
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


def test_temperature_divides_the_logits_outside_training(config):
    plain, calibrated = (
        build.model(config("model=fc", "data=digits", *more)).eval()
        for more in ([], ["model.tta.temperature=2.5"])
    )
    calibrated.load_state_dict(plain.state_dict())
    images = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(calibrated(images), plain(images) / 2.5)
    torch.testing.assert_close(calibrated.train()(images), plain.train()(images))
