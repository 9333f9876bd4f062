"""The files of each data set, and the errors for damaged ones."""

import gzip
import time
from threading import Event, Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from src.augment import augment
from src.core.errors import UserError
from src.core.pixels import to_float
from src.data.download import download_missing
from src.data.sets import digits
from src.data.sets.mnist import read_amat, read_idx
from tests.conftest import SHARED, call, command, data_of
from tests.data.writers import RNG, idx, write_amat, write_mnist


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")]
)
def test_idx_sets_are_read(config, tmp_path, name, folder, gz):
    write_mnist(tmp_path, folder, gz)
    data = data_of(config, f"data={name}", f"data.root={tmp_path}", "data.val_size=10")
    assert (len(data.train), len(data.val), len(data.test)) == (30, 10, 20)
    assert data.test.labels.tolist() == [i % 10 for i in range(20)]
    assert data.train.images.shape == (30, 1, 28, 28)
    assert data.train.images.dtype == torch.uint8


def test_read_idx_returns_the_written_bytes(tmp_path):
    array = RNG.integers(0, 256, (3, 4, 5))
    (tmp_path / "x").write_bytes(idx(array))
    assert np.array_equal(read_idx(tmp_path / "x").numpy(), array)


GOOD = idx(RNG.integers(0, 256, (3, 4, 5)))
BROKEN = {
    "empty": b"",
    "wrong magic": b"\x00\x00\x0d" + GOOD[3:],
    "truncated": GOOD[:-1],
    "too long": GOOD + b"\x00",
    "header cut": GOOD[:10],
    "no images": idx(np.zeros((0, 4, 5))),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_idx_file_is_named(tmp_path, kind):
    (tmp_path / "some-idx3").write_bytes(BROKEN[kind])
    with pytest.raises(UserError, match="some-idx3") as error:
        read_idx(tmp_path / "some-idx3")
    assert "\n" not in str(error.value)


def test_broken_gzip_file_is_named(tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(GOOD)[:-9])
    with pytest.raises(UserError, match=r"x\.gz cannot be read"):
        read_idx(tmp_path / "x.gz")


def test_wrong_labels_and_counts_are_named(config, tmp_path):
    raw = write_mnist(tmp_path)
    path = raw / "train-labels-idx1-ubyte"
    path.write_bytes(idx(np.arange(40) % 11))
    with pytest.raises(UserError, match="train-labels-idx1-ubyte: a label is 10"):
        data_of(config, "data=mnist", f"data.root={tmp_path}", "data.val_size=0")
    path.write_bytes(idx(np.zeros(39)))
    with pytest.raises(UserError, match="train-labels-idx1-ubyte holds 39 labels for 40 images"):
        data_of(config, "data=mnist", f"data.root={tmp_path}", "data.val_size=0")


@pytest.mark.parametrize("gz", [False, True])
def test_amat_files_are_read(config, tmp_path, gz):
    arrays = write_amat(tmp_path, gz=gz)
    data = data_of(config, "data=binarized_mnist", f"data.root={tmp_path}")
    for part, name in ((data.train, "train"), (data.val, "valid"), (data.test, "test")):
        assert np.array_equal(to_float(part.images).view(-1, 784).numpy(), arrays[name])


def test_broken_amat_file_is_named(tmp_path):
    for text in (b"", b"0 1 0\n", b"2 " * 784):
        (tmp_path / "x.amat").write_bytes(text)
        with pytest.raises(UserError, match=r"x.amat is damaged"):
            read_amat(tmp_path / "x.amat")


@pytest.mark.parametrize(
    "name", ["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "pets", "binarized_mnist"]
)
def test_missing_set_is_explained(config, tmp_path, name):
    with pytest.raises(UserError) as error:
        data_of(config, "model=fc", f"data={name}", f"data.root={tmp_path}", "data.download=false")
    line = str(error.value)
    assert str(tmp_path) in line
    assert "data.root=" in line
    assert "data=digits needs no download" in line
    assert "\n" not in line


def test_failed_download_is_one_line_and_leaves_no_files(config, tmp_path, monkeypatch):
    from src.data.sets.mnist import Mnist

    class Offline:
        def __init__(self, root, download):
            (tmp_path / "MNIST" / "raw").mkdir(parents=True)
            raise RuntimeError("Error downloading x:\nno network")

    monkeypatch.setattr(Mnist, "source", Offline)
    with pytest.raises(
        UserError, match=r"cannot be downloaded \(Error downloading x: no network\)"
    ):
        data_of(config, "data=mnist", f"data.root={tmp_path / 'none'}")
    assert not (tmp_path / "none").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="cannot be downloaded"):
        data_of(config, "data=mnist", f"data.root={tmp_path / 'mine'}")
    assert (tmp_path / "mine").is_dir(), "the user made this folder"


def test_second_process_waits_for_the_download(tmp_path):
    """Also if it starts when all files exist, but the last one has a part of its bytes."""
    data = SimpleNamespace(name="some", root=tmp_path / "new", download=True)
    path, started, calls, read = data.root / "file", Event(), [], []

    def download():
        calls.append(path)
        path.write_text("a")
        started.set()
        time.sleep(0.1)
        path.write_text("all")

    def read_set():
        download_missing(data, lambda: None if path.exists() else path, download)
        read.append(path.read_text())

    threads = [Thread(target=read_set) for _ in range(4)]
    for k, thread in enumerate(threads):
        thread.start()
        if k == 1:
            assert started.wait(10)
    for thread in threads:
        thread.join(10)
    assert read == ["all"] * 4
    assert len(calls) == 1
    assert list(data.root.iterdir()) == [path]


def test_existing_files_are_not_downloaded(config, tmp_path, monkeypatch):
    import socket

    write_mnist(tmp_path)
    monkeypatch.setattr(socket, "socket", lambda *a, **k: pytest.fail("opened a connection"))
    data_of(config, "data=mnist", f"data.root={tmp_path}", "data.val_size=5")


shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"real data for development are not at {SHARED}"
)


@shared
def test_real_mnist_is_read(config):
    data = data_of(config, "data=mnist", f"data.root={SHARED}", "data.train_size=50000")
    assert (len(data.train), len(data.val), len(data.test)) == (50000, 5000, 10000)
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert data.test.labels.bincount().tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]


@shared
def test_real_binarized_mnist_is_read(config):
    data = data_of(config, "data=binarized_mnist", f"data.root={SHARED}")
    assert (len(data.train), len(data.val), len(data.test)) == (50000, 10000, 10000)
    assert data.test.images.unique().tolist() == [0, 255]


@pytest.mark.slow
def test_missing_set_on_the_command_line_is_one_line(tmp_path):
    result = command(
        "train",
        "data=mnist",
        "data.download=false",
        f"data.root={tmp_path}",
        f"out={tmp_path / 'runs'}",
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: mnist: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_two_digit_mnist_places_two_digits(config, tmp_path, tmp_path_factory):
    """Each validation image is the sum, clipped at 1, of two digits at different places."""
    raw = write_mnist(tmp_path, n=12)
    for part in (
        "train",
        "t10k",
    ):  # one bright pixel per digit, each at its own place, so that an image identifies its digits
        images = np.zeros((12 if part == "train" else 20, 28, 28))
        for i, image in enumerate(images):
            image[i, i] = 200
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
    data = data_of(
        config, "model=draw", "data=two_digit_mnist", f"data.root={tmp_path}", "data.val_size=2"
    )
    assert (len(data.train), len(data.val), len(data.test)) == (10, 2, 20)
    assert data.train.images.shape[-2:] == (28, 28), "composed when loaded"
    assert data.test.images.shape == (20, 1, 60, 60)
    assert set(data.test.images.flatten(1).sum(1).tolist()) <= {400, 255}
    assert data.test.labels.unique().tolist() == [-1]
    out = tmp_path_factory.mktemp("out")
    overrides = ("data=two_digit_mnist", f"data.root={tmp_path}", "data.val_size=2", f"out={out}")
    with pytest.raises(UserError, match=r"data=two_digit_mnist has no labels; src\.augment needs"):
        call("augment", augment, *overrides, "augment=warp")
    sheets = data.randomize(to_float(data.train.images), torch.Generator().manual_seed(0))
    assert sheets.shape == (10, 1, 60, 60)
    assert sheets.max() <= 1


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    scans, labels = digits.load_digits()
    assert (scans.numpy() == load_digits().images).all()
    assert labels.tolist() == load_digits().target.tolist()
