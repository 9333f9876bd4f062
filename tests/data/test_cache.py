"""The cache of decoded images: read without decoding, replaced if anything changed or broke."""

import os
import subprocess
import sys

import pytest
import torch
from PIL import Image

from src.data.cache import cached
from src.data.sets import files as files_module
from tests.conftest import ROOT, data_of


@pytest.fixture
def decodes(monkeypatch):
    """The paths that are decoded."""
    seen = []
    real = files_module.decode_array
    monkeypatch.setattr(
        files_module, "decode_array", lambda path, *how: (seen.append(path), real(path, *how))[1]
    )
    return seen


@pytest.fixture
def images(tmp_path):
    """A folder of 12 images in two classes, each in its own gray."""
    for i in range(12):
        path = tmp_path / "images" / f"class{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (20 * i, 10, 10)).save(path)
    return tmp_path / "images"


def pixels(config, images, *more):
    """Read images and labels of the three sets again, with the cache next to the folder."""
    settings = (
        "model=fc",
        "data=folder",
        f"data.root={images}",
        "data.size=8",
        f"cache={images.parent / 'cache'}",
    )
    data = data_of(config, *settings, *more)
    return [(part.images.clone(), part.labels) for part in (data.train, data.val, data.test)]


def same(a, b):
    return all(
        torch.equal(x, y)
        for one, other in zip(a, b, strict=True)
        for x, y in zip(one, other, strict=True)
    )


def test_second_read_comes_from_the_cache(config, images, decodes):
    first = pixels(config, images)
    assert len(decodes) == 12
    assert same(first, pixels(config, images))
    cut = pixels(config, images, "data.val_size=5", "data.split_seed=3", "data.limit=4")
    assert len(decodes) == 12
    assert [len(part) for part, _ in cut] == [4, 4, 2]
    assert sorted(image[0, 0, 0].item() for part, _ in first for image in part) == [
        20 * i for i in range(12)
    ]


def test_settings_that_change_pixels_make_a_new_cache_entry(config, images, decodes):
    first = pixels(config, images)
    for n, more in enumerate((["data.size=9"], ["data.size=[8,9]"], ["data.channels=1"]), 2):
        pixels(config, images, *more)
        assert len(decodes) == 12 * n, more
    path = images / "class0" / "4.png"
    before = path.stat()
    Image.new("RGB", (16, 16), (255, 10, 10)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))  # modified in the same second
    second = pixels(config, images)
    assert len(decodes) == 60
    changed = [
        (one != other).any().item()
        for (a, _), (b, _) in zip(first, second, strict=True)
        for one, other in zip(a, b, strict=True)
    ]
    assert sum(changed) == 1
    (images / "class1" / "5.png").rename(images / "class1" / "55.png")
    pixels(config, images)
    assert len(decodes) == 72


def test_moments_of_files_are_those_of_images_in_memory_and_cached(config, images, decodes):
    settings = ("model=fc", "data=folder", f"data.root={images}", "data.size=8",
                f"cache={images.parent / 'cache'}")  # fmt: skip
    moments = [
        torch.stack(data_of(config, *settings, f"data.in_memory={keep}").moments())
        for keep in ("true", "false", "false")
    ]
    assert len(decodes) == 12 + 9, "12 images in memory, and the 9 for training from their files"
    assert torch.equal(moments[0], moments[1])
    assert torch.equal(moments[0], moments[2])


def test_nothing_is_cached_if_disabled_or_too_large(config, images, tmp_path, decodes, monkeypatch):
    pixels(config, images, "data.cache=null")
    monkeypatch.setattr(files_module, "MEMORY_LIMIT", 12 * 3 * 8 * 8 - 1)
    pixels(config, images, "data.in_memory=true")
    assert len(decodes) == 24
    assert not (tmp_path / "cache").exists()


def flipped(data):
    data[len(data) // 2] ^= 1
    return data


DAMAGE = {
    "a flipped byte": flipped,
    "truncated": lambda data: data[:-100],
    "half": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "words": lambda data: b"no tensor",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_broken_cache_entry_is_replaced(config, images, tmp_path, decodes, caplog, kind):
    caplog.set_level("INFO", logger="src")
    first = pixels(config, images)
    (entry,) = (tmp_path / "cache" / "decoded").iterdir()
    good = entry.read_bytes()
    entry.write_bytes(DAMAGE[kind](bytearray(good)))
    caplog.clear()
    assert same(first, pixels(config, images))
    assert len(decodes) == 24
    (line,) = [
        record.getMessage() for record in caplog.records if "is damaged" in record.getMessage()
    ]
    assert str(entry) in line
    assert "\n" not in line
    assert same(first, pixels(config, images))
    assert len(decodes) == 24, "the entry is complete again"


def has_shape(*shape):
    return lambda images: images.dtype == torch.uint8 and images.shape == shape


def test_cache_entry_of_another_shape_is_replaced(tmp_path):
    one, other = (
        torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
        torch.ones(3, 3, 4, 4, dtype=torch.uint8),
    )
    cached(tmp_path / "x.pt", has_shape(2, 3, 4, 4), lambda: one)
    assert torch.equal(cached(tmp_path / "x.pt", has_shape(3, 3, 4, 4), lambda: other), other)
    torch.save(other.float(), tmp_path / "x.pt")
    assert cached(tmp_path / "x.pt", has_shape(3, 3, 4, 4), lambda: other).dtype == torch.uint8
    torch.save({"no": "tensor"}, tmp_path / "x.pt")
    assert torch.equal(cached(tmp_path / "x.pt", has_shape(3, 3, 4, 4), lambda: other), other)
    again = cached(tmp_path / "x.pt", has_shape(3, 3, 4, 4), lambda: pytest.fail("computed again"))
    assert torch.equal(again, other)


def test_what_killed_processes_left_is_removed(tmp_path):
    old, young, other = (tmp_path / name for name in (".x.pt.1.tmp", ".x.pt.2.tmp", ".y.pt.1.tmp"))
    for path in (old, young, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (0, 0))
    cached(tmp_path / "x.pt", has_shape(1, 3, 4, 4), lambda: torch.zeros(1, 3, 4, 4).byte())
    assert sorted(path.name for path in tmp_path.iterdir()) == [young.name, other.name, "x.pt"]


def test_unwritable_cache_is_skipped(tmp_path, caplog):
    caplog.set_level("INFO", logger="src")
    (tmp_path / "file").touch()
    one = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    assert cached(tmp_path / "file" / "x.pt", has_shape(2, 3, 4, 4), lambda: one) is one
    assert "are not cached" in caplog.text


def test_writing_to_cached_images_does_not_change_the_file(tmp_path):
    one = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    for _ in range(2):
        cached(tmp_path / "x.pt", has_shape(2, 3, 4, 4), lambda: one.clone()).fill_(9)
    assert (
        cached(
            tmp_path / "x.pt", has_shape(2, 3, 4, 4), lambda: pytest.fail("computed again")
        ).max()
        == 0
    )


CHILD = """
import os, sys, time
from pathlib import Path
import torch
from src.data.cache import cached

path, me, other = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
images = torch.arange(6_144_000, dtype=torch.int32).view(2000, 3, 32,
                                                         32).byte()  # two writers of 6 MB overlap

def make():
    me.touch()
    while not other.exists():
        time.sleep(0.001)
    return images

def half(images, to):
    to.write_bytes(b"half")
    os.kill(os.getpid(), 9)

if len(sys.argv) > 4:
    torch.save = half
sys.exit(not torch.equal(cached(path, lambda kept: kept.shape == images.shape, make), images))
"""


def child(*args):
    return subprocess.Popen([sys.executable, "-c", CHILD, *map(str, args)], cwd=ROOT)


@pytest.mark.slow
def test_concurrent_and_killed_writers_leave_a_valid_cache(tmp_path):
    path, one, other = tmp_path / "decoded" / "x.pt", tmp_path / "one", tmp_path / "other"
    assert child(path, one, one, "killed").wait(timeout=120) == -9
    assert not path.exists()
    one.unlink()
    both = [
        child(path, one, other),
        child(path, other, one),
    ]  # each decodes after the other has also found no entry
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert [p.name for p in path.parent.iterdir() if not p.name.startswith(".")] == ["x.pt"]
    assert (
        cached(path, has_shape(2000, 3, 32, 32), lambda: pytest.fail("not kept")).sum().item()
        == sum(range(256)) * 24_000
    )
