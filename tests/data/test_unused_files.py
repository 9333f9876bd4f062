"""Every file in a folder is read or counted by reason: HEIC, links, broken and other files."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from src.core import image_files
from src.core.errors import UserError
from src.core.image_files import images_below, summary
from src.core.inputs import find_images
from src.data import decode as decoder
from src.data.decode import Fit, check_readable, decode
from src.data.images import ImageSet
from tests.conftest import ROOT, WINTER_NET, command, data_of

RNG = np.random.default_rng(0)
BROKEN_HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)  # a box, no image


def picture(red=0):
    pixels = RNG.integers(0, 200, (24, 32, 3), dtype=np.uint8)
    pixels[..., 0] = red
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path):
    """Two classes, eight JPEGs each."""
    for k, name in enumerate(("blue", "red")):
        (tmp_path / "in" / name).mkdir(parents=True)
        for i in range(8):
            picture(200 * k).save(tmp_path / "in" / name / f"{i}.jpg")
    return tmp_path / "in"


@pytest.fixture
def no_heif(monkeypatch):
    """Pretend that pillow-heif is not installed."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    image_files.heic_readable.cache_clear()
    yield
    image_files.heic_readable.cache_clear()


def heic(path, image):
    assert image_files.heic_readable()
    image.save(path, format="HEIF", quality=-1)  # without loss


def read(config, root, *more):
    settings = ("data.size=8", "data.test_size=4", "data.val_size=0", *more)
    return data_of(config, "model=fc", "data=folder", f"data.root={root}", *settings)


def everything(data):
    return len(data.train) + len(data.val) + len(data.test)


def test_heic_images_are_read(config, folder):
    image = picture(200)
    heic(folder / "red" / "IMG_1.HEIC", image)
    heic(folder / "red" / "IMG_2.jpg", image)  # some phones export files with this name
    for name in ("IMG_1.HEIC", "IMG_2.jpg"):
        expected = np.asarray(ImageOps.fit(image, (8, 8), Image.Resampling.BILINEAR))
        pixels = decode(folder / "red" / name, Fit((8, 8), 3)).permute(1, 2, 0).numpy()
        assert np.abs(pixels.astype(int) - expected).max() <= 24, "chroma is at half the size"
    assert everything(read(config, folder)) == 18


def test_heic_without_pillow_heif_is_left_out_with_advice(config, folder, caplog, no_heif):
    caplog.set_level("INFO", logger="src")
    for name in ("blue", "red"):
        for i in range(20):
            (folder / name / f"IMG_{i}.HEIC").write_bytes(BROKEN_HEIC)
    assert everything(read(config, folder)) == 16
    assert "left out 40 files: 40 HEIC (to read them: pip install pillow-heif)" in caplog.text


def test_heic_named_jpg_without_pillow_heif_is_explained(tmp_path):
    (tmp_path / "x.jpg").write_bytes(BROKEN_HEIC)
    code = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from pathlib import Path\nfrom src.data.decode import check_readable\n"
        f"check_readable(Path({str(tmp_path / 'x.jpg')!r}))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    reason = "(HEIC (to read them: pip install pillow-heif))"
    assert result.stderr.strip().endswith(f"x.jpg is not a readable image {reason}")


@pytest.mark.parametrize("keep", ["true", "false"])
def test_unreadable_images_are_left_out_and_the_first_is_named(config, folder, caplog, keep):
    caplog.set_level("INFO", logger="src")
    good = (folder / "red" / "0.jpg").read_bytes()
    broken = {
        "blue/cut.jpg": good[:-120],
        "blue/empty.png": b"",
        "red/IMG_1.HEIC": BROKEN_HEIC,
        "red/words.gif": b"no image",
    }
    for name, content in broken.items():
        (folder / name).write_bytes(content)
    data = read(config, folder, f"data.in_memory={keep}")
    assert isinstance(data.train, ImageSet) == (keep == "true")
    assert everything(data) == 16
    (message,) = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert message.startswith(
        f"{folder}: left out 4 files: 4 unreadable (the first: {folder / 'blue' / 'cut.jpg'}: "
    )
    assert "truncated" in message
    caplog.clear()
    again = read(config, folder, f"data.in_memory={keep}")  # from the cache
    assert message in caplog.text
    for one, other in ((data.train, again.train), (data.test, again.test)):
        everyone = torch.arange(len(one))
        assert torch.equal(one[everyone][0], other[everyone][0])


@pytest.mark.parametrize("keep", ["true", "false"])
def test_an_error_of_the_system_is_not_cached(config, folder, caplog, keep, tmp_path, monkeypatch):
    caplog.set_level("INFO", logger="src")
    real, settings = decoder._open, (f"data.in_memory={keep}", f"data.cache={tmp_path / 'cache'}")
    (folder / "red" / "empty.png").write_bytes(b"")

    def fail(path):
        if path.name == "3.jpg":
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr(decoder, "_open", fail)
    assert everything(read(config, folder, *settings)) == 14
    path = folder / "blue" / "3.jpg"
    assert f"3 unreadable (the first: {path}: Input/output error)" in caplog.text
    monkeypatch.setattr(decoder, "_open", real)
    assert everything(read(config, folder, *settings)) == 16
    monkeypatch.setattr(decoder, "_open", lambda path: pytest.fail("opened again"))
    caplog.clear()
    read(config, folder, *settings)
    first = folder / "red" / "empty.png"
    assert f"1 unreadable (the first: {first}: damaged, or not an image)" in caplog.text


def test_too_little_memory_is_no_damage(folder, monkeypatch):
    def fail(path):
        raise MemoryError

    monkeypatch.setattr(decoder, "_open", fail)
    with pytest.raises(MemoryError):
        check_readable(folder / "red" / "0.jpg")


def test_in_memory_does_not_change_the_images(config, folder):
    (folder / "red" / "3.jpg").write_bytes((folder / "red" / "3.jpg").read_bytes()[:-100])
    (folder / "blue" / "1.jpg").write_bytes(b"\xff\xd8")
    kept, lazy = (read(config, folder, f"data.in_memory={keep}") for keep in ("true", "false"))
    for one, other in ((kept.train, lazy.train), (kept.test, lazy.test)):
        (a, la), (b, lb) = (part[torch.arange(len(part))] for part in (one, other))
        assert torch.equal(a, b)
        assert torch.equal(la, lb)


@pytest.mark.parametrize("keep", ["true", "false"])
def test_class_without_readable_images_is_an_error(config, folder, keep):
    for path in (folder / "red").iterdir():
        path.write_bytes(b"")
    with pytest.raises(
        UserError, match=r"none of 8 images of class red can be read; the first: .*0\.jpg"
    ):
        read(config, folder, f"data.in_memory={keep}")


def test_quick_check_finds_the_same_files_as_decoding(folder):
    """JPEGs are checked at an eighth of their size, which fails exactly where decoding fails."""
    good = (folder / "red" / "0.jpg").read_bytes()
    rng = np.random.default_rng(1)
    path = folder / "red" / "x.jpg"
    seen = set()
    for _ in range(60):
        data = bytearray(good)
        if rng.random() < 0.5:
            del data[rng.integers(1, len(good)) :]
        else:
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        fine = []
        for read_file in (check_readable, lambda path: decode(path, Fit((8, 8), 3))):
            try:
                read_file(path)
                fine.append(True)
            except UserError:
                fine.append(False)
        assert fine[0] == fine[1]
        seen.add(fine[0])
    assert seen == {True, False}


def test_links_are_followed_and_files_count_once(config, folder, tmp_path):
    albums = tmp_path / "elsewhere"
    (albums / "deep").mkdir(parents=True)
    for i in range(3):
        picture(200).save(albums / "deep" / f"album{i}.jpg")
    (folder / "red" / "a_link").symlink_to(albums)
    (folder / "red" / "again").symlink_to(albums / "deep")
    (folder / "red" / "up").symlink_to(tmp_path)
    (folder / "blue" / "round").symlink_to(folder / "blue")
    (folder / "blue" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (folder / "blue" / "one").symlink_to(folder / "blue" / "other")
    (folder / "blue" / "other").symlink_to(folder / "blue" / "one")
    (folder / "blue" / "0_again.jpg").symlink_to(folder / "blue" / "0.jpg")
    (folder / "blue" / "far.jpg").symlink_to(tmp_path / "far.jpg")
    picture().save(tmp_path / "far.jpg")
    scan = images_below(folder)
    names = {str(path.relative_to(folder)) for path in scan.images}
    expected = {f"{name}/{i}.jpg" for name in ("blue", "red") for i in range(8)}
    albums_read = {f"red/a_link/deep/album{i}.jpg" for i in range(3)}
    assert names == expected | albums_read | {"blue/far.jpg"}
    counts = {reason: len(paths) for reason, paths in scan.left_out.items()}
    assert counts == {
        "broken links": 3,
        "links to folders that are read already": 3,
        "links to images that are used already": 1,
    }
    assert everything(read(config, folder)) == 20


def test_left_out_files_are_counted_by_reason(folder):
    for name in ("a.json", "b.json", "c.mov", "d", ".DS_Store", "__MACOSX/._0.jpg", ".git/x.png"):
        (folder / "red" / name).parent.mkdir(exist_ok=True)
        (folder / "red" / name).write_bytes(b"")
    os.mkfifo(folder / "red" / "pipe.jpg")
    scan = images_below(folder)
    assert len(scan.images) == 16
    assert summary(scan.left_out) == (
        "4 of other kinds (.json, .mov, no extension), 3 hidden, 1 not regular files"
    )


def test_unreadable_folder_is_counted(folder, monkeypatch):
    real = os.scandir

    def scandir(path):
        if str(path).endswith("blue"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(image_files.os, "scandir", scandir)
    scan = images_below(folder)
    assert len(scan.images) == 8
    assert summary(scan.left_out) == "1 folders that cannot be opened (Permission denied)"


def test_unlabeled_folders_are_read_alike(config, folder, caplog, tmp_path, capsys):
    caplog.set_level("INFO", logger="src")
    (folder / "red" / "x.json").write_text("")
    (folder / "red" / "cut.jpg").write_bytes((folder / "red" / "0.jpg").read_bytes()[:-90])
    (folder / "red" / "more").symlink_to(folder / "blue")
    roots = (f"data.root_a={folder / 'red'}", f"data.root_b={folder / 'blue'}")
    data = data_of(config, *WINTER_NET, "data=unpaired", *roots, "data.val_size=0")
    sizes = [len(side) for part in (data.train, data.test) for side in (part.a, part.b)]
    assert sizes == [14, 7, 2, 1]
    assert "left out 2 files: 1 of other kinds (.json), 1 unreadable (the first: " in caplog.text
    assert len(find_images([str(folder / "red")])) == 17, (
        "predict tries each file, and names those that it cannot read"
    )
    message = capsys.readouterr().err
    assert message == f"{folder / 'red'}: left out 1 file: 1 of other kinds (.json)\n"


@pytest.mark.slow
@pytest.mark.parametrize("command_line", ["train", "augment"])
def test_training_on_a_folder_from_a_phone(folder, tmp_path, command_line):
    for name in ("blue", "red"):
        for i in range(20):
            (folder / name / f"IMG_{i:04d}.HEIC").write_bytes(BROKEN_HEIC)
    args = {
        "train": ("model=fc", "data=folder", "data.size=8", "trainer=cpu", "trainer.max_epochs=1",
                  "callbacks=none", "logger=csv", f"hydra.run.dir={tmp_path / 'run'}"),
        "augment": ("augment=flip", f"out={tmp_path / 'out'}"),
    }[command_line]  # fmt: skip
    result = command(command_line, f"data.root={folder}", f"cache={tmp_path / 'cache'}", *args)
    assert result.returncode == 0, result.stderr
    if command_line == "train":
        first = folder / "blue" / "IMG_0000.HEIC"
        assert (
            f"left out 40 files: 40 unreadable (the first: {first}: damaged, or not an image)"
            in result.stderr
        )
        assert "12 to train, 1 to validate, 3 to test" in result.stderr
    else:
        made = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
        assert len(made) == 16 + 12 + 1
