"""The accuracy of an image as it is, beside that of the mean over its views."""

import pytest
import torch

from src.engine import build
from src.engine.load import load_run
from src.metrics.intervals import wilson
from src.train import train
from tests.conftest import TINY, saved


@pytest.mark.parametrize("views", ["model.tta.flip=true", "model.tta.shift=2", "model.tta.shift=0"])
def test_the_accuracy_of_the_single_view_stands_beside_that_of_all(config, tmp_path, views):
    """By NumPy from the net's own logits, with Wilson's interval; without other views it is not
    logged."""
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


def test_no_view_costs_another_forward_pass(config, tmp_path, monkeypatch):
    cfg = config("model=lenet", "data=digits", "model.tta.flip=true", "model.tta.shift=1", *TINY)
    model = build.model(cfg).eval()
    calls = []
    model.net.register_forward_hook(lambda module, args, out: calls.append(len(args[0])))
    monkeypatch.setattr(model, "log", lambda *args, **kwargs: None)
    model._measure((torch.rand(4, 1, 28, 28), torch.arange(4)), "test")
    assert calls == [4] * 6
