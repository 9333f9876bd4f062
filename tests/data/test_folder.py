"""Folders of images: split folders, splits, decoding, and errors."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from src.bench.baselines import one_by_one
from src.core.errors import UserError
from src.data.decode import Fit, decode
from src.data.images import ImageSet
from src.data.sets import files
from src.engine.resume import expect_same_files
from tests.conftest import data_of

RNG = np.random.default_rng(0)


def write_folder(root, levels=("",), n=6, suffixes=("jpg", "png", "bmp", "gif", "webp", "tif")):
    for level in levels:
        for i, name in enumerate(("cats", "dogs")):
            folder = root / level / name
            folder.mkdir(parents=True)
            for j in range(n):
                color = (200 * i, 20 * j, 90)
                Image.new("RGB", (30 + j, 20 + j), color).save(
                    folder / f"{j}.{suffixes[j % len(suffixes)]}"
                )


def test_folder_without_split_folders_is_split_by_split_seed(config, tmp_path):
    write_folder(tmp_path, n=10)
    settings = (
        "data=folder",
        f"data.root={tmp_path}",
        "data.test_size=5",
        "data.val_size=3",
        "data.size=16",
    )
    data, again = data_of(config, *settings), data_of(config, *settings, "seed=7")
    assert (len(data.train), len(data.val), len(data.test)) == (12, 3, 5)
    assert data.class_names == ["cats", "dogs"]
    assert data.train.images.shape == (12, 3, 16, 16)
    assert torch.equal(data.test.images, again.test.images)
    assert torch.equal(data.val.labels, again.val.labels)
    reds = data.train.images[:, 0].float().mean((1, 2))
    assert torch.equal(reds > 100, data.train.labels == 1)


@pytest.mark.parametrize(
    "levels", [("train", "test"), ("train", "val", "test"), ("train", "valid")]
)
def test_folder_keeps_its_split_folders(config, tmp_path, levels):
    write_folder(tmp_path, levels)
    data = data_of(
        config,
        "data=folder",
        f"data.root={tmp_path}",
        "data.test_size=4",
        "data.val_size=2",
        "data.size=16",
    )
    assert len(data.val) == (12 if len(levels) == 3 or "valid" in levels else 2)
    assert len(data.test) == (12 if "test" in levels else 4)


def test_streamed_batches_equal_batches_in_memory(config, tmp_path):
    write_folder(tmp_path, ("train", "test"))
    settings = (
        "data=folder",
        f"data.root={tmp_path}",
        "data.size=16",
        "data.val_size=0",
        "data.batch_size=4",
        "trainer=cpu",
    )
    kept, lazy = (
        data_of(config, *settings, f"data.in_memory={keep}") for keep in ("true", "false")
    )
    assert isinstance(kept.train, ImageSet)
    assert not isinstance(lazy.train, ImageSet)
    for (a, la), (b, lb) in zip(kept.train_dataloader(), lazy.train_dataloader(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(la, lb)


def test_auto_keeps_images_in_a_quarter_of_the_memory(config, tmp_path, monkeypatch):
    write_folder(tmp_path, ("train", "test"))
    settings = ("data=folder", f"data.root={tmp_path}", "data.size=16", "data.cache=null")
    needed = 24 * 3 * 16 * 16
    for memory, kept in ((4 * needed, True), (4 * needed - 1, False), (None, True)):
        monkeypatch.setattr(files, "total_memory", lambda memory=memory: memory)
        data = data_of(config, *settings, "data.in_memory=auto")
        assert isinstance(data.train, ImageSet) == kept


@pytest.mark.parametrize("channels", [1, 3])
def test_bench_baseline_reads_the_same_images(config, tmp_path, channels):
    write_folder(tmp_path, ("train", "test"), suffixes=("png",))
    data = data_of(
        config,
        "data=folder",
        f"data.root={tmp_path}",
        "data.size=16",
        "data.val_size=0",
        f"data.channels={channels}",
    )
    ((images, labels),) = one_by_one(data)
    assert images.shape == (12, channels, 16, 16)
    # within a class, each image is brighter than the one before it
    order = (labels * 1000 + images.mean((1, 2, 3)) * 255).argsort()
    assert torch.allclose(images[order] * 255, data.train.images.float(), atol=1.01)
    (tmp_path / "train" / "cats" / "0.png").write_bytes(b"gone")
    with pytest.raises(OSError, match=r"0\.png"):
        list(one_by_one(data))


def test_a_plain_loop_reads_only_the_chosen_classes(config, tmp_path):
    write_folder(tmp_path, ("train", "test"), suffixes=("png",))
    settings = ("data=folder", f"data.root={tmp_path}", "data.size=16", "data.batch_size=50")
    ((images, labels),) = one_by_one(data_of(config, *settings, "data.classes=[dogs]"))
    assert len(images) == 6
    assert labels.unique().tolist() == [0]


def test_broken_folder_is_explained(config, tmp_path):
    def line(*overrides):
        with pytest.raises(UserError) as error:
            data_of(config, "data=folder", f"data.root={tmp_path}", "data.size=16", *overrides)
        return str(error.value)

    assert "holds no class folders" in line()
    write_folder(tmp_path)
    assert "data.num_classes=5, but" in line("data.num_classes=5")
    assert "test_size=50" in line("data.test_size=50")
    (tmp_path / "emus").mkdir()
    assert f"{tmp_path / 'emus'}: a class with no images" in line()


def test_unknown_test_class_is_named(config, tmp_path):
    write_folder(tmp_path, ("train", "test"))
    settings = ("data=folder", f"data.root={tmp_path}", "data.size=16")
    (tmp_path / "test" / "yaks").mkdir()
    assert len(data_of(config, *settings).test) == 12, "a folder without images is no class"
    shutil.copy(tmp_path / "test" / "cats" / "0.jpg", tmp_path / "test" / "yaks")
    with pytest.raises(UserError, match="yaks: no such class"):
        data_of(config, *settings)
    assert len(data_of(config, *settings, "data.classes=[cats,dogs]").test) == 12


def test_data_classes_selects_and_orders_classes(config, tmp_path):
    """A folder that is not selected may hold unreadable files."""
    write_folder(tmp_path, ("train", "test"))
    for level in ("train", "test"):
        (tmp_path / level / "birds").mkdir()
        (tmp_path / level / "birds" / "0.png").write_bytes(b"no image")
    settings = ("data=folder", f"data.root={tmp_path}", "data.size=16", "data.val_size=0")
    data = data_of(config, *settings, "data.classes=[dogs,cats]")
    assert (data.class_names, data.num_classes) == (["dogs", "cats"], 2)
    for part in (data.train, data.test):
        assert part.labels.bincount().tolist() == [6, 6]
        assert torch.equal(part.images[:, 0].float().mean((1, 2)) > 100, part.labels == 0), (
            "dogs are painted reddish"
        )
    for classes, words in (
        ("[dogs,cat]", "cat is none of the classes birds, cats, dogs; did you mean cats?"),
        ("[cats,cats]", "a class occurs twice"),
        ("breeds", "data.classes=breeds: must be a non-empty list"),
    ):
        with pytest.raises(UserError, match=words.replace("?", "[?]")):
            data_of(config, *settings, f"data.classes={classes}")


def test_data_classes_accepts_names_of_digits(config, tmp_path):
    write_folder(tmp_path)
    (tmp_path / "cats").rename(tmp_path / "10")
    data = data_of(
        config,
        "data=folder",
        f"data.root={tmp_path}",
        "data.size=16",
        "data.test_size=2",
        "data.classes=[10,dogs]",
    )
    assert data.class_names == ["10", "dogs"]


def test_other_files_are_ignored(config, tmp_path):
    """File managers leave hidden files among images."""
    write_folder(tmp_path)
    settings = ("data=folder", f"data.root={tmp_path}", "data.size=16", "data.test_size=2")
    before = len(data_of(config, *settings).train)
    for name in ("Thumbs.db", "README.txt", ".hidden.png", ".git/x.png"):
        (tmp_path / "cats" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "cats" / name).write_bytes(b"no image")
    assert len(data_of(config, *settings).train) == before


def test_16_bit_images_are_scaled_and_float_images_refused(tmp_path):
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    (tmp_path / "ramp.pgm").write_bytes(b"P5 8 8 65535\n" + ramp.astype(">u2").tobytes())
    white_is_0 = {0x0106: 0}
    Image.fromarray(65535 - ramp).save(tmp_path / "ramp.tif", tiffinfo=white_is_0)
    turned = np.ascontiguousarray(65535 - np.rot90(ramp))
    white_is_0[0x0112] = 6  # rotate a quarter clockwise
    Image.fromarray(turned).save(tmp_path / "turned.tif", tiffinfo=white_is_0)
    for name in ("ramp.png", "ramp.pgm", "ramp.tif", "turned.tif"):
        for channels in (1, 3):
            pixels = decode(tmp_path / name, Fit(None, channels))
            assert np.abs(pixels[-1].numpy() - ramp / 257).max() <= 0.5, name
    Image.fromarray(ramp.astype(np.float32) / 65535).save(tmp_path / "float.tiff")
    with pytest.raises(UserError, match=r"float\.tiff is not a readable image .*mode F"):
        decode(tmp_path / "float.tiff", Fit(None, 1))


def test_decode_applies_exif_and_center_crops(tmp_path):
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate a quarter clockwise: the left half moves to the top
    image.save(tmp_path / "x.png", exif=exif)
    pixels = decode(tmp_path / "x.png", Fit((10, 10), 1))
    assert pixels.shape == (1, 10, 10)
    assert pixels[0, :4].min() > 200
    assert pixels[0, 6:].max() < 50


def test_excluded_files_are_left_out_and_counted(config, tmp_path, log_lines):
    root, listed = tmp_path / "photos", tmp_path / "list.txt"
    write_folder(root)
    listed.write_text(f"{min(root.rglob('*.png')).relative_to(root)}\n\n")
    settings = ("data=folder", f"data.root={root}", "data.val_size=0", "data.test_size=0")
    whole = data_of(config, *settings)
    part = data_of(config, *settings, f"data.exclude={listed}")
    assert len(part.train) == len(whole.train) - 1
    assert any(f"1 named in {listed}" in line for line in log_lines)


@pytest.mark.parametrize("name", ["missing.png", "../photos"])
def test_exclude_list_that_names_no_image_is_one_line(config, tmp_path, name):
    root, listed = tmp_path / "photos", tmp_path / "list.txt"
    write_folder(root)
    listed.write_text(f"{name}\n")
    with pytest.raises(UserError, match=r"which is no image in data\.root"):
        data_of(config, "data=folder", f"data.root={root}", f"data.exclude={listed}")


@pytest.mark.parametrize("kind", ["folder", "winter", "unpaired"])
def test_a_test_set_is_drawn_from_the_files_of_the_run(config, tmp_path, kind):
    """Another file would change the draw, and so put training images into the test set."""

    def state_or_error(root, *settings, state=None):
        domains = (f"data.root_a={root / 'cats'}", f"data.root_b={root / 'dogs'}")
        where = domains if kind == "unpaired" else (f"data.root={root}",)
        model = "model=fc" if kind == "folder" else "model=cyclegan"
        small = ("data.size=16", "data.val_size=1", "data.test_size=1")
        data = data_of(config, model, f"data={kind}", *where, *small, *settings)
        return data.state_dict() if state is None else data.load_state_dict(state)

    before, after = tmp_path / "before", tmp_path / "after"
    write_folder(before)
    state = state_or_error(before)
    before.rename(after)
    state_or_error(after, state=state)
    Image.new("RGB", (30, 20)).save(after / "cats" / "new.png")
    n = 6 if kind == "unpaired" else 12
    with pytest.raises(UserError, match=rf"have changed .* {n} images .* {n + 1} images "):
        state_or_error(after, state=state)
    if kind == "folder":
        (tmp_path / "new.txt").write_text("cats/new.png")
        state_or_error(after, f"data.exclude={tmp_path / 'new.txt'}", state=state)


def test_two_class_folders_whose_names_look_equal_are_an_error(config, tmp_path):
    write_folder(tmp_path)
    (tmp_path / "cats").rename(tmp_path / os.fsdecode(b"\xff"))
    (tmp_path / "dogs").rename(tmp_path / r"\xff")
    with pytest.raises(UserError, match=r"two folders whose names are shown as \\xff: rename one"):
        data_of(config, "data=folder", f"data.root={tmp_path}", "data.size=16")


def test_files_beside_a_test_folder_may_change(config, tmp_path):
    write_folder(tmp_path, ("train", "test"))
    settings = ("data=folder", f"data.root={tmp_path}", "data.size=16", "data.val_size=0")
    state = data_of(config, *settings).state_dict()
    Image.new("RGB", (30, 20)).save(tmp_path / "train" / "cats" / "new.png")
    changed = data_of(config, *settings)
    changed.load_state_dict(state)  # as src.evaluate does
    cfg = config("model=fc", *settings)
    with pytest.raises(UserError, match=r"the training files in .* 12 images .* 13 images"):
        expect_same_files(changed, cfg, {"Folder": state}, tmp_path / "last.ckpt")
