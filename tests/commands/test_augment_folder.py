"""src.augment: originals are kept, copies and manifest are written, wrong settings are refused;
the preview."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from src.augment import augment, preview
from src.config.compose import groups
from src.core.errors import UserError
from src.core.randomness import CounterRNG
from src.data import folder_writer
from src.data.decode import Fit, decode
from src.data.folder_writer import image_places
from src.data.sets.files import FileSet
from src.data.transforms import geometric, pixelwise
from src.data.transforms.augment import Augment
from tests.conftest import call, data_of
from tests.data.test_folder import write_folder
from tests.data.writers import write_mnist


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Augment a folder of two classes threefold, twice; return the folder of all of them."""
    top = tmp_path_factory.mktemp("augment")
    write_folder(top / "in", ("train", "test"), n=6)
    noise = np.random.default_rng(0)
    for path in sorted((top / "in" / "train").rglob("*.png")):  # smooth shapes, to see them move
        blocks = Image.fromarray(noise.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        blocks.resize(Image.open(path).size, Image.Resampling.BICUBIC).save(path)
    (top / "in" / "train" / "cats" / "more").mkdir()
    Image.new("L", (40, 30), 99).save(
        top / "in" / "train" / "cats" / "more" / "1.png"
    )  # a name that is there already
    for out in ("out", "again"):
        call(
            "augment",
            augment,
            f"data.root={top / 'in'}",
            "augment=strong",
            "factor=3",
            f"out={top / out}",
            "data.val_size=3",
        )
    return top


def test_originals_and_split_are_kept_and_the_manifest_lists_all_copies(made, config):
    out, source = made / "out", made / "in"
    files = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    again = {
        str(p.relative_to(made / "again")): p.read_bytes()
        for p in (made / "again").rglob("*")
        if p.is_file()
    }
    assert files == again
    given = sorted(p.read_bytes() for p in source.rglob("*") if p.is_file())
    rows = list(csv.DictReader((out / "manifest.csv").read_text().splitlines()))
    made_files = {row["file"] for row in rows}
    assert (
        sorted(
            value
            for name, value in files.items()
            if name not in made_files and name != "manifest.csv"
        )
        == given
    )
    assert len(rows) == 2 * 10  # of 13 training images 3 validate
    assert all(name.startswith("train/") for name in made_files)
    held_out = [name for name in files if name.startswith(("test/", "val/"))]
    assert len(held_out) == 12 + 3
    data = data_of(config, "data=folder", f"data.root={out}", "data.size=16")
    assert (len(data.train), len(data.val), len(data.test)) == (30, 3, 12)

    textured = [
        row
        for row in rows
        if decode(out / row["source"], Fit(None, 3)).float().std((1, 2)).min() > 20
    ]
    assert len(textured) >= 2
    for row in textured:
        replay(out, row)


def replay(out, row):
    """Assert that the transforms of a row of the manifest turn its source into its file."""
    image = decode(out / row["source"], Fit(None, 3)).unsqueeze(0) / 255
    values = {
        name: {key: torch.tensor([value], dtype=torch.float64) for key, value in one.items()}
        for name, one in json.loads(row["transforms"]).items()
    }
    geometry = {name: values[name] for name in ("flip", "rotation", "crop")}
    names = {
        "flip": geometric.Flip(0.5),
        "rotation": geometric.Rotation(15),
        "crop": geometric.Crop(0.5, 1.333),
    }
    replayed = Augment(names, "reflect").apply(image, geometry, CounterRNG(torch.arange(1), 0))[0]
    for key, transform in (
        ("brightness", pixelwise.Brightness(0.3)),
        ("contrast", pixelwise.Contrast(0.3)),
    ):
        replayed = transform.apply(
            replayed.unsqueeze(0), values[key], CounterRNG(torch.arange(1), 0)
        )[0]
    result = decode(out / row["file"], Fit(None, 3)) / 255
    assert result.shape == image.shape[1:]
    assert (result - replayed).abs().median() < 0.05  # the noise
    assert (result - image[0]).abs().median() > 0.05


def test_files_that_are_left_out_are_reported(photos, tmp_path, capsys):
    folder = shutil.copytree(photos, tmp_path / "in")
    (folder / "cats" / "bad.png").write_bytes(b"no image")
    (folder / "cats" / "list.txt").write_text("cats")
    settings = (f"data.root={folder}", "data.test_size=4", f"cache={tmp_path / 'cache'}")
    call("augment", augment, *settings, "augment=flip", f"out={tmp_path / 'out'}")
    stderr = capsys.readouterr().err
    assert f"{folder}: left out 2 files: 1 of other kinds (.txt), 1 unreadable" in stderr


@pytest.mark.parametrize(("memory", "threads"), [(4 * 80 * 20**2, 1), (12 * 80 * 20**2, 3)])
def test_threads_need_a_quarter_of_the_memory(tmp_path, monkeypatch, memory, threads):
    for side in (8, 20):
        Image.new("RGB", (side, side)).save(tmp_path / f"{side}.png")
    part = FileSet(sorted(tmp_path.iterdir()), torch.zeros(2), Fit((8, 8), 3))
    monkeypatch.setattr(folder_writer, "total_memory", lambda: memory)
    monkeypatch.setattr(folder_writer.os, "cpu_count", lambda: 16)
    assert folder_writer._threads(part) == threads


def test_an_augmented_folder_can_be_augmented_again(made, tmp_path):
    """All original images are kept, although the copy of one would get the name of another."""
    call(
        "augment",
        augment,
        f"data.root={made / 'out'}",
        "augment=flip",
        "factor=2",
        f"out={tmp_path / 'twice'}",
    )
    kept = sorted(p.read_bytes() for p in (made / "out").rglob("*.*") if p.suffix != ".csv")
    files = {
        str(p.relative_to(tmp_path / "twice")): p.read_bytes()
        for p in (tmp_path / "twice").rglob("*.*")
    }
    rows = list(csv.DictReader((tmp_path / "twice" / "manifest.csv").read_text().splitlines()))
    made_files = {row["file"] for row in rows}
    assert len(made_files) == len(rows) == 30
    assert (
        sorted(
            value
            for name, value in files.items()
            if name not in made_files and name != "manifest.csv"
        )
        == kept
    )


def test_colliding_output_names_are_made_unique(tmp_path):
    """Two images of a class are called 1.png, and a third has the name that the second would
    get."""
    paths = [tmp_path / name for name in ("a/1.png", "b/1.png", "00001_1.png", "2.png")]
    part = FileSet(paths, torch.zeros(4, dtype=torch.int64), Fit((8, 8), 3))
    assert [path.name for path in image_places(part, ["cats"])] == [
        "00000_1.png",
        "00001_1.png",
        "00002_00001_1.png",
        "00003_2.png",
    ]
    part = FileSet(
        [paths[0], paths[1], paths[3]], torch.zeros(3, dtype=torch.int64), Fit((8, 8), 3)
    )
    assert [path.name for path in image_places(part, ["cats"])] == [
        "00000_1.png",
        "00001_1.png",
        "2.png",
    ]


def test_long_names_are_shortened(photos, tmp_path):
    folder, name = shutil.copytree(photos, tmp_path / "in"), "\u00e9" * 123 + ".png"  # 250 bytes
    for path in (folder / "cats" / name, folder / "cats" / "more" / name):
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / "cats" / "1.png", path)
    settings = (f"data.root={folder}", "data.test_size=0", "data.val_size=0", "augment=flip")
    call("augment", augment, *settings, "factor=2", f"out={tmp_path / 'out'}")
    long = [
        path.name
        for path in (tmp_path / "out" / "train" / "cats").iterdir()
        if "\u00e9" in path.name
    ]
    assert len(long) == 4
    assert all(name.endswith("\u00e9.png") or name.endswith(".1.png") for name in long)


def test_no_test_or_validation_set_is_drawn_from_copies(config, photos, tmp_path):
    settings = (f"data.root={photos}", "data.test_size=0", "data.val_size=0", "augment=flip")
    call("augment", augment, *settings, "factor=2", f"out={tmp_path}")
    made = ("data=folder", f"data.root={tmp_path}", "data.size=16")
    with pytest.raises(UserError, match=r"data\.test_size=0\.2: .* holds copies"):
        data_of(config, *made)
    with pytest.raises(UserError, match=r"data\.val_size=0\.1: .* holds copies"):
        data_of(config, *made, "data.test_size=0")
    assert len(data_of(config, *made, "data.test_size=0", "data.val_size=0").train) > 0


def test_a_class_with_a_slash_gets_one_folder(tmp_path):
    write_mnist(tmp_path / "in", "FashionMNIST")
    settings = (
        "data=fashion_mnist",
        f"data.root={tmp_path / 'in'}",
        "data.val_size=0",
        "augment=flip",
    )
    out = tmp_path / "in" / "more"  # this data set reads only files of certain names
    call("augment", augment, *settings, "factor=2", f"out={out}")
    folders = {path.name for path in (out / "test").iterdir()}
    assert len(folders) == 10
    assert "T-shirt_top" in folders
    rows = list(csv.DictReader((out / "manifest.csv").read_text().splitlines()))
    (name,) = {row["class"] for row in rows if row["file"].startswith("train/T-shirt_top/")}
    assert name == "T-shirt/top"


def test_settings_that_cannot_augment_a_folder_get_one_line(made):
    for overrides, words in (
        ([f"out={made / 'out'}"], "exists and is not empty"),
        ([f"out={made / 'in' / 'train' / 'x'}"], "lies in data.root"),
        (["augment=none"], "augment=none makes no images"),
        (["augment=mixup"], "mixes labels"),
        (
            ["data=reviews"],
            "data=reviews holds sentences: src.augment takes images with labels",
        ),
        (["data=winter"], "data=winter holds two domains of images: src.augment takes"),
        (["data.permute=true"], "data.permute=true is only for training"),
        (["data.binarize=true"], "data.binarize=true is only for training"),
    ):
        with pytest.raises(UserError, match=words):
            call("augment", augment, f"data.root={made / 'in'}", f"out={made / 'new'}", *overrides)
    (made / "bad" / "cats").mkdir(parents=True)
    (made / "bad" / "dogs").mkdir()
    for i in range(4):
        for name in ("cats", "dogs"):
            Image.new("RGB", (9, 9)).save(made / "bad" / name / f"{i}.png")
    (made / "bad" / "dogs" / "2.png").write_bytes(b"no image")
    for i in (0, 1, 3):
        (made / "bad" / "dogs" / f"{i}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"none of 4 images of class dogs can be read.*dogs/0"):
        call(
            "augment",
            augment,
            f"data.root={made / 'bad'}",
            f"out={made / 'new'}",
            "data.test_size=1",
            "data.val_size=0",
        )
    assert sorted(p.name for p in made.iterdir()) == [
        "again",
        "bad",
        "in",
        "out",
    ]  # nothing half made is left


def test_preview_shows_every_choice(tmp_path, capsys):
    Image.fromarray((np.random.default_rng(0).random((50, 60, 3)) * 255).astype(np.uint8)).save(
        tmp_path / "a.png"
    )
    preview(tmp_path / "a.png", tmp_path / "sheet.png", 0)
    rows = len(groups()["augment"]) - 1  # none and model have none, the image as it is has one
    assert f"{5 * rows} images of" in capsys.readouterr().out
    assert decode(tmp_path / "sheet.png", Fit(None, 3)).shape[1] > 96 * rows
    with pytest.raises(UserError, match="a picture's name must end in"):
        preview(tmp_path / "a.png", tmp_path / "sheet.txt", 0)
