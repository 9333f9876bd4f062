"""Transfer learning: what comes from where, what stays as it was, at which rate the rest learns,
the line for what fails."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.config.checks import check, compose
from src.core import runs
from src.core.errors import UserError
from src.engine import build
from src.engine.instantiate import instantiate_node
from src.engine.load import load_run
from src.evaluate import evaluate
from src.models.classifier import Classifier
from src.nets.inspect import count_parameters
from src.train import train
from tests.conftest import TINY, call, command, saved, wrong
from tests.engine.cuts import assert_same_run, cut_and_resumed

NET = (*TINY, "data=folder", "data.size=8", "data.cache=null", "data.limit=null", "model=vgg",
       "model.net.features=[4,M,8,M,D]", "model.net.dropout=[0.3,0]", "model.ema=0.9",
       "test=false")  # fmt: skip
SOURCE = (*NET, "data.classes=[c,a,b]", "data.val_size=0", "trainer.max_epochs=2")
# 64 images, batch 16: four batches an epoch
TARGET = (*NET, "data.classes=[e,d]", "data.val_size=8", "data.test_size=8", "data.batch_size=16",
          "trainer.max_epochs=3",
          "trainer.log_every_n_steps=1", "checkpoint.every_n_batches=null")  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of five classes, 40 colored noises each."""
    root, noise = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for k, name in enumerate("abcde"):
        (root / name).mkdir()
        for i in range(40):
            pixels = noise.integers(0, 120 + 30 * k, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def backbone(images, tmp_path_factory):
    """The folder of a run on three of them, with a moving average."""
    cfg = compose("train", [f"data.root={images}", *SOURCE])
    check(cfg)
    folder = saved(cfg, tmp_path_factory.mktemp("backbone") / "run")
    train(cfg, folder)
    return folder


@pytest.fixture
def settings(images, backbone, config):
    """overrides -> a config that begins with that run, on the two other classes."""
    return lambda *more: config(
        *TARGET, f"data.root={images}", f"model.init_from={backbone}", *more
    )


def state_of(folder):
    return runs.load_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]


def started(cfg):
    """The model and data of `cfg`, what it begins from brought in."""
    torch.manual_seed(cfg.seed)
    data = build.datamodule(cfg)
    model = build.model(cfg, data)
    model.load_pretrained(data)
    return model, data


def test_a_run_gives_its_average_its_mean_and_std_but_no_head(settings, backbone):
    cfg, source = settings(), state_of(backbone)
    model, data = started(cfg)
    torch.manual_seed(cfg.seed)
    drawn = build.model(cfg, data)
    for name, value in model.net.state_dict().items():
        expected = (
            drawn.net.state_dict()[name]
            if name.startswith("fc1.")
            else source[f"average.module.{name}"]
        )
        assert torch.equal(value, expected), name
        assert torch.equal(value, model.average.module.state_dict()[name])
    assert not torch.equal(source["net.conv1.weight"], source["average.module.conv1.weight"])
    assert torch.equal(model.mean, source["mean"])
    assert torch.equal(model.std, source["std"])
    assert not torch.allclose(model.mean.flatten().double(), data.moments()[0], atol=0.01), (
        "these images are brighter"
    )


def test_of_the_same_classes_the_head_comes_too(settings, backbone):
    model, data = started(
        settings(
            "data.classes=[c,a,b]",
            f"model.init_from={backbone / 'checkpoints' / 'last.ckpt'}",
        )
    )
    old = load_run(backbone)[1]
    x = data.eval_images(data.test, torch.arange(8))[0]
    assert torch.equal(model.eval()(x), old(x))
    other, _ = started(settings("data.classes=[a,b,c]"))
    assert not torch.equal(other.net.fc1.weight, model.net.fc1.weight), (
        "another order is another head"
    )


def test_what_is_given_is_not_overwritten(settings, backbone):
    model, _ = started(settings("model.normalize.mean=0.25", "model.normalize.std=null"))
    assert model.mean.unique().tolist() == [0.25]
    assert torch.equal(model.std, state_of(backbone)["std"])


@pytest.fixture(scope="module")
def frozen_run(images, backbone, tmp_path_factory):
    """A run on frozen features with all that looks at a net while it learns."""
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
        f"data.root={images}",
        f"model.init_from={source}",
        "model.transfer.freeze=backbone",
        "model.ema=0",
    )
    cfg = compose("train", [*TARGET, *begin, "test=true", "trainer.max_epochs=2", *shown])
    check(cfg)
    metrics = train(cfg, saved(cfg, top / "run"))
    shutil.rmtree(source)
    return top / "run", metrics


def test_what_is_frozen_stays_bit_equal(frozen_run, backbone, settings):
    """Parameters, BatchNorm's buffers, mean and std, though pictures and graphs change modes in
    between; the head learns."""
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
    assert not torch.equal(after["net.fc1.weight"], started(settings())[0].net.fc1.weight)


def test_the_log_says_what_is_trained_of_how_much(frozen_run):
    folder, metrics = frozen_run
    log = (folder / "train.log").read_text()
    head, rest = (8 * 2 * 2 + 1) * 2, (3 * 9 + 1) * 4 + 2 * 4 + (4 * 9 + 1) * 8 + 2 * 8
    assert f"{head} of {head + rest} parameters" in log
    assert "but fc1: new for 2 classes" in log
    assert metrics["parameters"] == head


def test_a_finished_run_stands_without_what_it_began_from(frozen_run):
    folder, metrics = frozen_run
    assert call("evaluate", evaluate, f"run={folder}")["test/acc"] == metrics["test/acc"]


def test_the_articles_arithmetic(config):
    """(2,048 features + 1) x 2 classes; all of ResNet-50 is torchvision's 25,557,032 with a head
    for 2 instead of 1,000."""
    cfg = config("model=resnet50", "data=folder", "data.root=x", "data.num_classes=2",
                 "model.init_from=torchvision",
                 "model.transfer.freeze=backbone", "model.ema=0.9")  # fmt: skip
    with torch.device("meta"):
        model = instantiate_node(cfg.model, "model")
    assert count_parameters(model) == (4_098, 25_557_032 - 2_049 * 1_000 + 4_098)


@pytest.mark.parametrize("decay_all", [True, False])
def test_the_backbones_rate_is_a_share_of_the_heads_at_every_batch(
    settings, tmp_path, monkeypatch, decay_all
):
    cfg = settings("model/schedule=cosine", "model.optimizer.lr=0.5",
                   "model.transfer.backbone_lr=0.02", f"model.decay_all={decay_all}",
                   "model.transfer.freeze=2", "model.transfer.unfreeze_epoch=1")  # fmt: skip
    seen, step = [], Classifier.training_step

    def noted(self, batch, batch_idx):
        of_heads = {id(p) for p in self.net.fc1.parameters()}
        groups = self.trainer.optimizers[0].param_groups
        seen.append(
            {({id(p) for p in group["params"]} <= of_heads, group["lr"]) for group in groups}
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
def unfreezing(images, backbone, tmp_path_factory, request):
    """A run whose first three layers are frozen for an epoch, uncut; and the file that it began
    from."""
    top = tmp_path_factory.mktemp("unfreezing")
    shutil.copy(backbone / "checkpoints" / "last.ckpt", top / "source.ckpt")
    cfg = compose("train", [*TARGET, f"data.root={images}",
                            f"model.init_from={top / 'source.ckpt'}",
                            *UNFREEZING, f"model/optimizer={request.param}"])  # fmt: skip
    check(cfg)
    train(cfg, saved(cfg, top / "uncut"))
    return cfg, top


@pytest.mark.parametrize("cut", [2, 4, 5, 7])
def test_cut_before_at_and_after_the_unfreezing(unfreezing, tmp_path, monkeypatch, cut):
    """The optimizer's state of what was frozen included; what it began from is gone when the run is
    resumed."""
    cfg, top = unfreezing
    cfg = cfg.copy()
    moved = shutil.copy(top / "source.ckpt", tmp_path / "source.ckpt")
    trained = train.__globals__["train"]

    def without_source(cfg, folder):
        if cfg.resume:
            Path(moved).unlink()
        return trained(cfg, folder)

    monkeypatch.setattr("tests.engine.test_resume.train", without_source)
    cfg.model.init_from = str(moved)
    folder = cut_and_resumed(Classifier, cfg, tmp_path, monkeypatch, cut)
    assert_same_run(top / "uncut", folder)


def test_what_is_unfrozen_learns(settings, tmp_path, monkeypatch):
    """After its epoch, not before: parameters, BatchNorm's buffers, the average's too; and the
    dropout behind comes on."""
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
    train(settings("model.transfer.freeze=4", "model.transfer.unfreeze_epoch=1"), tmp_path)
    assert "after epoch 1, " in (tmp_path / "train.log").read_text()
    *values, norms, dropouts = zip(*found, strict=True)
    assert norms == dropouts == (False,) * 4 + (True,) * 8
    for part in values:
        same = [torch.equal(a, b) for a, b in itertools.pairwise(part)]
        assert same == [True] * 4 + [False] * 7


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ["model.net.features=[4,M,9,M,D]"],
            ["6 of another shape (conv2.weight [8, 4, 3, 3] for [9, 4, 3, 3], ", ", ...)"],
        ),
        (
            ["model.net.norm=none"],
            ["10 unexpected (norm1.weight, norm1.bias, norm1.running_mean, ...)"],
        ),
        (
            ["model.net.features=[4,M,8,8,M,D]"],
            ["6 missing (conv3.weight, conv3.bias, norm3.weight, ...)"],
        ),
        (
            ["model.net.features=[4,M,8,M,M]", "model.net.hidden_dims=[5]"],
            ["2 of another shape (fc1.weight [3, 32] for [5, 8], fc1.bias "],
        ),
        (
            ["data.permute=true"],
            ["its images had their pixels in another order (data.permute, data.size)"],
        ),
        (
            ["model.transfer.freeze=5"],
            ["model: freeze=5 leaves nothing to learn: the net has 5 layers"],
        ),
    ],
)
def test_what_does_not_fit_is_named(settings, more, words):
    with pytest.raises(UserError) as error:
        started(settings(*more))
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_the_order_of_permuted_pixels_must_be_the_same(settings, backbone, tmp_path):
    """One seed permutes alike, another does not; nor is a permuted run a beginning for images as
    they are."""
    checkpoint = runs.load_checkpoint(backbone / "checkpoints" / "last.ckpt")
    part = next(
        part for part in checkpoint.values() if isinstance(part, dict) and "permutation" in part
    )
    part["permutation"] = build.datamodule(settings("data.permute=true")).permutation
    torch.save(checkpoint, tmp_path / "permuted.ckpt")
    source = f"model.init_from={tmp_path / 'permuted.ckpt'}"
    started(settings(source, "data.permute=true"))
    for other in ([], ["data.permute=true", "data.split_seed=1"]):
        with pytest.raises(UserError, match="pixels in another order"):
            started(settings(source, *other))


def test_what_is_not_there_costs_no_heavy_import_and_leaves_no_folder(tmp_path):
    absent = f"model.init_from={tmp_path / 'x'}"
    line = wrong(command("train", "model=vgg", "data.size=32", absent, f"out={tmp_path / 'runs'}"))
    assert f"{absent} does not exist: give the folder of a run, or a checkpoint" in line
    assert not (tmp_path / "runs").exists()


def test_the_experiments_ask_for_a_run():
    """A missing value would not do: over a value that stands it changes nothing, and the net would
    begin as drawn."""
    for name in ("transfer_frozen", "transfer_finetuned"):
        source = compose("train", [f"experiment={name}", "data.root=x"]).model.init_from
        with pytest.raises(
            UserError, match=r"model\.init_from must be given: give the folder of a run"
        ):
            runs.checkpoint_at(Path(source), "model.init_from")


def test_other_files_and_families_are_refused(settings, tmp_path, gan_run):
    torch.save({"state_dict": {"net.x": torch.zeros(1)}}, tmp_path / "draw.ckpt")
    torch.save([1], tmp_path / "list.ckpt")
    (tmp_path / "text.ckpt").write_text("nothing")
    for path, words in (
        (tmp_path / "draw.ckpt", "is not the checkpoint of a Classifier"),
        (tmp_path / "list.ckpt", "is not the checkpoint of a Classifier"),
        (tmp_path / "text.ckpt", "is a broken checkpoint"),
        (gan_run, "is not the checkpoint of a Classifier"),
        (tmp_path, "is not a run folder"),
    ):
        with pytest.raises(UserError, match=words):
            started(settings(f"model.init_from={path}"))
