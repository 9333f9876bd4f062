"""Recipes on a part of the photos, with and without the shortcut of fixed features."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from src.core.errors import UserError
from src.nanonet import lab, recipes
from src.nanonet.lab import Lab
from src.nanonet.recipes import OutOfTime, Recipe, train_on
from src.train import train
from tests.conftest import ON_CPU, saved

CNN = ("model=cnn", "model.net.features=[4,M]", "model.net.kernel=3", "model.net.hidden_dims=[8]")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Return a folder of two classes, 12 images each: a bright side, left or right, and noise."""
    root = tmp_path_factory.mktemp("photos")
    noise = torch.Generator().manual_seed(0)
    for label, name in enumerate(("left", "right")):
        (root / name).mkdir()
        for i in range(12):
            pixels = torch.randint(0, 120, (12, 12), generator=noise)
            pixels[:, 6 * label : 6 * label + 6] += torch.randint(0, 60, (1,), generator=noise)
            Image.fromarray(pixels.byte().numpy()).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def overrides(photos: Path, tmp_path_factory) -> list[str]:
    """Return overrides for the photos, and a trained network to start from."""
    folder = tmp_path_factory.mktemp("runs")
    of_photos = ["data=folder", f"data.root={photos}", "data.size=12", "data.channels=1",
                 "data.val_size=0", "data.test_size=0", "data.batch_size=5", "test=false",
                 f"cache={folder}", *ON_CPU]  # fmt: skip
    first = Recipe.compose("first", of_photos, [*CNN, "trainer.max_epochs=1", "seed=5"])
    train(first.cfg, saved(first.cfg, folder / "run"))
    return [*of_photos, *CNN, f"model.init_from={folder / 'run'}"]


RECIPES = {
    "plain": ["model.transfer.freeze=backbone", "trainer.max_epochs=3", "model.optimizer.lr=0.1"],
    "flips and a schedule": [
        "model.transfer.freeze=backbone", "augment=flip", "trainer.max_epochs=4",
        "model/schedule=cosine", "model/optimizer=adamw", "model.optimizer.lr=0.1",
        "model.label_smoothing=0.1", "model.tta.flip=true",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_head_on_fixed_features_learns_what_the_trainer_teaches(name, overrides, tmp_path):
    recipe = Recipe.compose("frozen", overrides, RECIPES[name])
    assert recipe.fixed_features
    own = Lab([str(i) for i in range(24)], tmp_path)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    train_part, held_out = order[:17].sort().values, order[17:].sort().values
    fast = own.predict(recipe, train_part, held_out)
    slow = train_on(recipe, own.data(recipe), train_part, held_out, tmp_path)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)
    assert fast.distance.min() > 0
    untrained = train_on(
        recipe._replace(cfg=build_with(recipe, "trainer.max_epochs", 1)),
        own.data(recipe), train_part, held_out, tmp_path,
    )  # fmt: skip
    assert (slow.logits - untrained.logits).abs().max() > 1e-2  # training mattered


def build_with(recipe: Recipe, key: str, value: object):
    """Return the recipe's config with one setting changed."""
    cfg = recipe.cfg.copy()
    group, name = key.split(".")
    cfg[group][name] = value
    return cfg


@pytest.mark.parametrize(
    "changes",
    [
        ["model.transfer.freeze=none"],
        ["model.transfer.freeze=backbone", "augment=standard"],
        ["model.transfer.freeze=backbone", "model.ema=0.9"],
        ["model.transfer.freeze=backbone", "model/optimizer=lbfgs"],
        ["model.transfer.freeze=backbone", "model.transfer.unfreeze_epoch=1",
         "trainer.max_epochs=3"],
    ],
)  # fmt: skip
def test_recipes_that_change_features_have_no_shortcut(changes, overrides):
    assert not Recipe.compose("other", overrides, changes).fixed_features


def test_features_are_read_from_disk_and_only_new_photos_are_embedded(
    overrides, tmp_path, monkeypatch
):
    recipe = Recipe.compose("frozen", overrides, RECIPES["plain"])
    digests = [str(i) for i in range(24)]
    first = Lab([*digests[:20], *(f"old {i}" for i in range(4))], tmp_path / "a").features(recipe)
    embedded = []
    embed = lab.embed

    def count(model, data, indices, title):
        embedded.append(len(indices))
        return embed(model, data, indices, title)

    monkeypatch.setattr(lab, "embed", count)
    again = Lab(digests, tmp_path / "b", [tmp_path / "a"]).features(recipe)
    assert sum(embedded) == 4
    torch.testing.assert_close(again.plain, first.plain, rtol=1e-4, atol=1e-5)


def test_moved_views_take_part_in_the_predictions(overrides, tmp_path, monkeypatch):
    recipe = Recipe.compose("moved", overrides, ["trainer.max_epochs=1", "model.tta.shift=1"])
    own, held_out, models = Lab([str(i) for i in range(24)], tmp_path), torch.arange(20, 24), []
    data, build_model = own.data(recipe), recipes.build.model
    monkeypatch.setattr(
        recipes.build, "model", lambda *args: models.append(build_model(*args)) or models[-1]
    )
    found = train_on(recipe, data, torch.arange(20), held_out, tmp_path)
    images, _ = data.eval_images(data.train, held_out)
    with torch.no_grad():
        torch.testing.assert_close(found.logits, models[0](images))


def test_network_that_ends_in_a_convolution_is_one_line(overrides, tmp_path):
    recipe = Recipe.compose(
        "maps", overrides[: overrides.index(CNN[0])],
        ["model=timm", "model.net.model_name=resnetv2_18", "data.channels=3", "data.size=32",
         "trainer.max_epochs=1"],
    )  # fmt: skip
    own = Lab([str(i) for i in range(24)], tmp_path)
    with pytest.raises(UserError, match="the last layer is a convolution"):
        own.predict(recipe, torch.arange(12), torch.arange(12, 24))


def test_wrong_override_of_a_candidate_is_one_line_with_its_name(overrides):
    with pytest.raises(UserError, match=r"candidate\.mine: .*mean trainer\.max_epochs"):
        Recipe.compose("mine", overrides, ["trainer.max_epoch=3"])


def test_training_ends_at_its_deadline(overrides, tmp_path):
    recipe = Recipe.compose("slow", overrides, ["trainer.max_epochs=1000"])
    own = Lab([str(i) for i in range(24)], tmp_path)
    with pytest.raises(OutOfTime):
        own.predict(recipe, torch.arange(12), torch.arange(12, 24), seconds=0.5)


def test_features_of_photos_that_are_prepared_in_another_way_are_not_shared(overrides, tmp_path):
    own = Lab([str(i) for i in range(24)], tmp_path)
    whole, cropped = (
        own.features(Recipe.compose("frozen", overrides, [*RECIPES["plain"], *more]))
        for more in ([], ["data.crop=0.5"])
    )
    assert not torch.equal(whole.plain, cropped.plain)
