"""Candidates without a name: own runs, and nets in the caches of torchvision and timm."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from src.config.compose import compose
from src.config.jobs import run_once
from src.core.errors import UserError
from src.core.pixels import to_float
from src.engine.load import load_classifier, load_run
from src.models.normalize import normalized
from src.nanonet import project
from src.nanonet.available import cached_timm, cached_torchvision, find_once, own_runs
from src.nanonet.earlier import Summary
from src.nanonet.lab import Lab
from src.nanonet.photos import Inspection, look_at
from src.nanonet.recipes import Recipe, train_on
from src.train import train
from src.viz import explain
from tests.conftest import ON_CPU

NET = ["model=timm", "model.net.model_name=test_efficientnet"]


def write_photos(root: Path, classes: tuple[str, ...], seed: int) -> Path:
    """Write six images of 40 x 40 pixels for each class."""
    noise = torch.Generator().manual_seed(seed)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(6):
            pixels = torch.randint(0, 255, (40, 40, 3), generator=noise).byte().numpy()
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def reading(root: Path, cache: Path) -> list[str]:
    """Return the overrides of src.train that read a folder of photos."""
    return ["data=folder", f"data.root={root}", "data.val_size=0", "data.test_size=0",
            f"cache={cache}", *ON_CPU]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Return a folder with photos, other photos, and a run on each."""
    folder = tmp_path_factory.mktemp("available")
    roots = {
        "same": write_photos(folder / "photos", ("a", "b"), seed=0),
        "other": write_photos(folder / "others", ("c", "d", "e"), seed=1),
    }
    for number, (name, root) in enumerate(roots.items()):
        run = folder / "runs" / name
        overrides = [*reading(root, folder / "cache"), *NET, "model.net.dropout=0.1",
                     "data.size=32", "data.crop=0.8", "trainer.max_epochs=1", "test=false",
                     f"hydra.run.dir={run}"]  # fmt: skip
        run_once("train", overrides, train, run, is_named=True)
        os.utime(run / "checkpoints" / "last.ckpt", (number, number))
    return folder


def write_run(folder: Path, model: str, *overrides: str) -> Path:
    """Write the files of a finished run that a search reads, without training."""
    cfg = compose("train", [f"model={model}", "data=folder", "data.root=.", *overrides])
    for part in (".hydra", "checkpoints"):
        (folder / part).mkdir(parents=True)
    OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
    choices = {"hydra": {"runtime": {"choices": {"model": model}}}}
    OmegaConf.save(OmegaConf.create(choices), folder / ".hydra" / "hydra.yaml")
    (folder / "metrics.json").write_text('{"test/acc": 1}')
    (folder / "checkpoints" / "last.ckpt").touch()
    return folder


def photos_in(place: Path) -> list[Path]:
    return sorted((place / "photos").rglob("*.png"))


def test_own_run_on_other_photos_is_a_candidate(place: Path):
    (found,) = own_runs(place / "runs", photos_in(place), limit=3)
    assert found.name == "own_other"
    assert str(place / "runs" / "other") in found.origin
    recipe = Recipe.compose(
        found.name, reading(place / "photos", place / "cache"), found.overrides, found.origin
    )
    assert recipe.cfg.data.size == [32, 32]
    assert recipe.cfg.data.crop == 0.8
    assert recipe.cfg.model.net.dropout == 0  # that of the run was in its last layer
    assert recipe.cfg.model.net.model_name == "test_efficientnet"
    assert recipe.fixed_features


def test_runs_that_may_have_seen_a_photo_are_no_candidates(place: Path, tmp_path: Path):
    shutil.copytree(place / "runs", tmp_path / "runs")
    path = tmp_path / "runs" / "other" / ".hydra" / "config.yaml"
    path.write_text(path.read_text().replace(str(place / "others"), str(tmp_path / "gone")))
    assert own_runs(tmp_path / "runs", photos_in(place), limit=3) == []
    copy = tmp_path / "copy"
    shutil.copytree(place / "others", copy)
    path.write_text(path.read_text().replace(str(tmp_path / "gone"), str(copy)))
    assert len(own_runs(tmp_path / "runs", photos_in(place), limit=3)) == 1
    shutil.copy(photos_in(place)[0], copy / "c" / "another name.png")
    assert own_runs(tmp_path / "runs", photos_in(place), limit=3) == []


@pytest.mark.parametrize("model", ["airbench", "resnet20"])
def test_run_with_a_whitening_layer_keeps_the_layer_that_it_learned(tmp_path: Path, model: str):
    write_run(tmp_path / "run", model, "model.normalize.whiten=true")
    (found,) = own_runs(tmp_path, [], limit=3)
    recipe = Recipe.compose(found.name, ["data=folder", "data.root=."], found.overrides)
    assert not recipe.cfg.model.normalize.whiten


@pytest.mark.parametrize("source", ["first", "first/checkpoints/last.ckpt", "gone"])
def test_run_that_started_from_one_that_knows_the_photos_is_no_candidate(
    place: Path, tmp_path: Path, source: str, capsys
):
    write_run(tmp_path / "first", "resnet20", f"data.root={place / 'photos'}")
    others, start = f"data.root={place / 'others'}", f"model.init_from={tmp_path / source}"
    second = write_run(tmp_path / "second", "resnet20", others)
    third = write_run(tmp_path / "third", "resnet20", others, start)
    assert [one.name for one in own_runs(tmp_path, photos_in(place), limit=3)] == ["own_second"]

    known = [look_at(path, 0) for path in photos_in(place)[:2]]
    photos = Inspection(known, [], {}, {}, [], [], {})
    cfg = make_settings(candidate={"mine": ["model=cnn"]}, init="EARLIER")
    for run, expected in ((second, ["mine2", "mine"]), (third, ["mine"])):
        earlier = Summary([], [], [], [], "mine2", ["model=resnet20", f"model.init_from={run}"])
        own = project.Project(tmp_path, place / "photos")
        recipes = project.make_recipes(own, cfg, photos, earlier)
        assert [recipe.name for recipe in recipes] == expected
    assert capsys.readouterr().out.startswith("left out: mine2, the choice of EARLIER: ")


def make_settings(**changes: object) -> DictConfig:
    """Return settings of src.nanonet that find nothing."""
    return OmegaConf.create(
        {"candidate": {}, "init": None, "found": {"runs": None, "caches": False, "max": 3},
         "data": {"classes": None, "background": "white"}, "seed": 0, "cache": "~/.cache/atelier",
         **changes}
    )  # fmt: skip


def test_found_candidate_that_does_not_fit_is_left_out_and_a_named_one_is_an_error(
    tmp_path: Path, capsys
):
    cfg, own = make_settings(), project.Project(tmp_path, tmp_path)
    photos = Inspection([], [], {}, {}, [], [], {})
    (tmp_path / "search").mkdir()
    found = [["bad", ["model.net.no_such=1"], "a run"], ["good", ["model=resnet20"], "a run"]]
    (tmp_path / "search" / "found.json").write_text(json.dumps(found))
    assert [recipe.name for recipe in project.make_recipes(own, cfg, photos, None)] == ["good"]
    assert capsys.readouterr().out.startswith("left out: candidate.bad: ")
    cfg.candidate = {"bad": ["model.net.no_such=1"]}
    with pytest.raises(UserError, match=r"candidate\.bad"):
        project.make_recipes(own, cfg, photos, None)


def test_only_the_newest_runs_are_candidates(place: Path):
    names = [found.name for found in own_runs(place / "runs", [], limit=1)]
    assert names == ["own_other"]  # the run on the same photos is older
    assert len(own_runs(place / "runs", [], limit=9)) == 2


def test_continued_search_has_the_candidates_that_it_began_with(place: Path, tmp_path: Path):
    cfg = OmegaConf.create(
        {"found": {"runs": str(place / "runs"), "caches": False, "max": 3}, "out": None}
    )
    first = find_once(cfg, photos_in(place), tmp_path)
    cfg.found.runs = None
    assert find_once(cfg, photos_in(place), tmp_path) == first
    assert find_once(cfg, photos_in(place), tmp_path / "new") == []
    assert [found.name for found in first] == ["own_other"]


def test_cached_weights_are_candidates(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    assert cached_torchvision(3) == cached_timm(3) == []
    for name in (
        "hub/checkpoints/resnet18-f37072fd.pth",
        "hub/checkpoints/nothing-1234.pth",
        "hf/models--timm--resnet18.a1_in1k/snapshots/0/model.safetensors",
        "hf/models--timm--deit_tiny_distilled_patch16_224.fb_in1k/snapshots/0/model.safetensors",
        "hf/models--timm--no_such_net/snapshots/0/model.safetensors",
        "hf/models--other--thing/snapshots/0/model.safetensors",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [*cached_torchvision(3), *cached_timm(3)]
    assert [one.name for one in found] == ["resnet18_imagenet", "resnet18.a1_in1k"]
    recipes = [
        Recipe.compose(one.name, ["data=folder", "data.root=."], one.overrides) for one in found
    ]
    assert [recipe.cfg.model.init_from for recipe in recipes] == ["pretrained"] * 2
    data = [recipe.cfg.data for recipe in recipes]
    assert [(one.size, one.crop, one.interpolation) for one in data] == [
        (224, 0.875, "bilinear"), (224, 0.95, "bicubic"),
    ]  # fmt: skip


def test_hidden_head_on_a_cut_own_net_learns_what_the_trainer_teaches(place: Path, tmp_path: Path):
    run = place / "runs" / "other"
    recipe = Recipe.compose(
        "cut", reading(place / "photos", place / "cache"),
        [*NET, "model.net.features.cut=2", "model.net.hidden=6", "data.size=32",
         f"model.init_from={run}",
         "model.transfer.freeze=backbone", "augment=flip", "model.tta.flip=true",
         "model.optimizer.lr=0.05", "trainer.max_epochs=4", "data.batch_size=5"],
    )  # fmt: skip
    own = Lab([str(i) for i in range(12)], tmp_path)
    own.prepare(recipe)
    train_part, held_out = torch.arange(12)[::2], torch.arange(12)[1::2]
    fast = own.predict(recipe, train_part, held_out)
    slow = train_on(recipe, own.data(recipe), train_part, held_out, tmp_path)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)

    _, whole, _ = load_run(run)
    images, _ = own.data(recipe).eval_images(own.data(recipe).train, torch.arange(3))
    with torch.no_grad():
        maps = whole.net.forward_intermediates(whole.scaled(images), [2], intermediates_only=True)
    torch.testing.assert_close(own.features(recipe).plain[:3], maps[0].mean((2, 3)))


@pytest.mark.parametrize(
    "change",
    [
        "model.net.dropout=0.5",
        "model.tta.shift=1",
        "trainer.gradient_clip_val=0.1",
        "trainer.accumulate_grad_batches=2",
    ],
)
def test_recipe_that_only_the_trainer_can_follow_has_no_fixed_features(change: str):
    frozen = [*NET, "model.init_from=pretrained", "model.transfer.freeze=backbone", "data.size=32"]
    photos = ["data=folder", "data.root=."]
    assert Recipe.compose("fast", photos, frozen).fixed_features
    assert not Recipe.compose("slow", photos, [*frozen, change]).fixed_features


def test_run_of_a_cut_network_is_an_ordinary_one(place: Path, tmp_path: Path):
    overrides = [*reading(place / "photos", place / "cache"), *NET, "model.net.features.cut=2",
                 "model.net.features.pool=max", "model.net.hidden=6", "data.size=32", "test=false",
                 "model.transfer.freeze=backbone", "trainer.max_epochs=1"]  # fmt: skip
    sources = {"first": place / "runs" / "same", "second": tmp_path / "first"}
    for name, source in sources.items():
        folder = tmp_path / name
        more = [f"model.init_from={source}", f"hydra.run.dir={folder}"]
        run_once("train", [*overrides, *more], train, folder, is_named=True)
    logs = [(tmp_path / name / "train.log").read_text() for name in sources]
    assert "newly initialized for 2 classes: head.0, head.2" in logs[0]
    assert "last layer included" in logs[1]
    classifier = load_classifier(tmp_path / "second")
    images = to_float(torch.stack([classifier.read(path) for path in photos_in(place)[:2]]))
    assert classifier.predict(images).probabilities.shape == (2, 2)
    deployed = classifier.net
    net, x = deployed.net, normalized(images, deployed.mean, deployed.std, deployed.in_channels)
    layer = explain.find_cam_layer(net, x)
    heat = explain.grad_cam(net, net.get_submodule(layer), x, torch.tensor([0, 1]))
    assert heat.isfinite().all()
