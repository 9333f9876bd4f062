"""Metrics on a part of a set: the part represents the whole."""

import json
import shutil

import pytest
import torch

from src.callbacks.quality import SampleQuality
from src.data.splits import stratified_sample
from src.evaluate import evaluate
from src.metrics import features
from src.train import train
from tests.conftest import TINY, WINTER_NET, WINTER_SMALL, call, data_of, saved
from tests.metrics.families import BF16, measured, small

pytestmark = pytest.mark.usefixtures("few_steps")


@pytest.mark.parametrize("order", ["class after class", "in turn", "shuffled"])
def test_limit_keeps_class_shares(order):
    labels = torch.arange(1000) // 100
    if order != "class after class":
        labels = torch.arange(1000) % 10 if order == "in turn" else labels[torch.randperm(1000)]
    for n in (10, 100, 333, 1000, 2000):
        indices = stratified_sample(labels, n, "x")
        assert len(indices.unique()) == len(indices) == min(n, 1000)
        assert torch.equal(indices, indices.sort().values)
        shares = labels[indices].bincount(minlength=10)
        assert shares.max() - shares.min() <= 1
    assert not torch.equal(stratified_sample(labels, 100, "x"), stratified_sample(labels, 100, "y"))
    first = stratified_sample(labels, 100, "x")[:10] % 100
    assert len(set(first.tolist())) > 5, "not each class's first image"


def test_limit_without_labels_is_a_random_sample():
    indices = stratified_sample(torch.full((1000,), -1), 100, "x")
    assert abs(indices.double().mean() - 499.5) < 100
    assert len(set(indices.diff().tolist())) > 5
    assert len(stratified_sample(torch.empty(0, dtype=torch.int64), 5, "x")) == 0


def in_class_order(part):
    return part.subset(part.labels.argsort(stable=True))


def test_perfect_sampler_is_perfect_on_a_sorted_set(config, monkeypatch):
    """Regression: the first 3,000 test images of a sorted CIFAR hold three classes (KID 2)."""
    data = data_of(config, "model=gan", "data.size=16", "data.test_size=800")
    monkeypatch.setattr(features, "STEPS", 100)
    cards = {}
    for name, test in (("shuffled", data.test), ("ordered", in_class_order(data.test))):
        data.test = test
        callback = SampleQuality(200, None, 0, str(data.cache))
        cards[name] = measured(callback, data)
    first = measured(callback, data, lambda part, n: torch.arange(n))
    assert abs(cards["ordered"]["test/kid_own"]) < 0.05 * first["test/kid_own"]
    for figure in ("fid_own", "precision", "coverage"):
        shuffled, ordered = (cards[name][f"test/{figure}"] for name in ("shuffled", "ordered"))
        assert abs(ordered - shuffled) < 0.2 * abs(first[f"test/{figure}"] - shuffled), figure


def test_shortened_test_covers_all_classes(config, photos, tmp_path):
    cfg = config(*TINY, "model=fc", "data=folder", f"data.root={photos}", "data.size=16",
                 "data.test_size=0.5",
                 "data.eval_batch_size=8", "data.limit=null", "data.cache=null",
                 "trainer.max_epochs=1",
                 "trainer.limit_test_batches=1", "callbacks=none")  # fmt: skip
    values = train(cfg, saved(cfg, tmp_path / "run"))
    assert values["test/n"] == 8
    assert {"test_classes/cats", "test_classes/dogs"} <= set(values)
    again = call("evaluate", evaluate, f"run={tmp_path / 'run'}")
    assert again["test/loss"] == values["test/loss"]


def test_shortened_test_keeps_pairs(config, photos):
    data = data_of(
        config, *WINTER_NET, *WINTER_SMALL, "data=winter", f"data.root={photos}", "data.test_size=8"
    )

    class Cut:
        limit_val_batches, limit_test_batches, global_rank, world_size = 1.0, 2, 0, 1

        class strategy:
            root_device = torch.device("cpu")

    whole = list(data.test_dataloader())
    data.trainer = Cut
    (a, b), (all_a, all_b) = next(iter(data.test_dataloader())), whole[0]
    places = [int((all_a == x).flatten(1).all(1).nonzero()) for x in a]
    assert places == [int((all_b == x).flatten(1).all(1).nonzero()) for x in b]
    assert places != sorted(places)


def test_class_without_images_has_no_accuracy(config, photos, tmp_path):
    """Regression: it was NaN, and null in metrics.json."""
    cfg = config(*TINY, "model=fc", "data=folder", f"data.root={photos}", "data.size=16",
                 "data.cache=null",
                 "data.val_size=0", "data.test_size=1", "trainer.max_epochs=1")  # fmt: skip
    train(cfg, saved(cfg, tmp_path / "run"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert len([name for name in metrics if name.startswith("test_classes/")]) == 1
    assert None not in metrics.values()


def test_images_of_one_class_get_no_metrics_of_a_classifier(config, photos, tmp_path):
    cfg = small(config, photos, "src.models.gan.GAN", "data=folder", f"data.root={photos}",
                "data.classes=[cats]", "data.size=16", "data.cache=null",
                "data.val_size=0.1", BF16)  # fmt: skip
    train(cfg, saved(cfg, tmp_path / "run"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert not {"test/fid_own", "test/least_class", "test/precision"} & set(metrics)
    assert "the images have only one" in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.parametrize("family", ["src.models.gan.GAN", "src.models.draw.DRAW"])
@pytest.mark.parametrize(("each", "missing"), [(10, ["precision"]), (3, ["fid_own", "precision"])])
def test_training_on_few_own_images_yields_metrics(config, photos, tmp_path, family, each, missing):
    """Metrics that need more images are left out and logged."""
    for name in ("cats", "dogs"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for i in range(each):
            shutil.copy(photos / name / f"{i}.png", tmp_path / "in" / name)
    cfg = small(config, photos, family, "data=folder", f"data.root={tmp_path / 'in'}",
                "data.size=16", "data.cache=null",
                "data.val_size=0.1", BF16)  # fmt: skip
    train(cfg, saved(cfg, tmp_path / "run"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    message = (tmp_path / "run" / "train.log").read_text()
    for name in ("fid_own", "precision"):
        assert (f"test/{name}" in metrics) == (name not in missing)
    assert metrics["test/samples"] == metrics["test/n"] == round(0.2 * 2 * each)
    assert (
        f"test: too few images ({metrics['test/n']}) for precision, recall, density, coverage"
        in message
    )
    assert None not in metrics.values()
    again = call("evaluate", evaluate, f"run={tmp_path / 'run'}")
    assert all(metrics[name] == value for name, value in again.items() if name.startswith("test/"))
