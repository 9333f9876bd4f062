"""Reading, splitting, batching: what comes out, and the line that each broken input gets."""

import gzip
import hashlib
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from src import build
from src.data import torchvision_sets
from src.data.base import EpochSampler, ImageSet, resized, to_float
from src.data.folder import decode
from src.data.mnist import read_amat, read_idx
from src.errors import UserError
from tests.conftest import SHARED, command

RNG = np.random.default_rng(0)


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_mnist(root, folder="MNIST", gz=False, n=40):
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", n), ("t10k", 20)):
        images, labels = RNG.integers(0, 256, (count, 28, 28)), np.arange(count) % 10
        for stem, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            data = idx(array)
            (raw / (stem + ".gz" * gz)).write_bytes(gzip.compress(data) if gz else data)
    return raw


def data_of(config, *overrides):
    cfg = config(*overrides)
    return build.data(cfg)


# --- idx, amat -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx_sets(config, tmp_path, name, folder, gz):
    write_mnist(tmp_path, folder, gz)
    data = data_of(config, f"data={name}", f"data.root={tmp_path}", "data.val_size=10")
    assert (len(data.train), len(data.val), len(data.test)) == (30, 10, 20)
    assert data.test.labels.tolist() == [i % 10 for i in range(20)]
    assert data.train.images.shape == (30, 1, 28, 28)
    assert data.train.images.dtype == torch.uint8


def test_idx_holds_the_very_bytes(tmp_path):
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
def test_a_broken_idx_file_is_named(tmp_path, kind):
    (tmp_path / "some-idx3").write_bytes(BROKEN[kind])
    with pytest.raises(UserError, match="some-idx3") as error:
        read_idx(tmp_path / "some-idx3")
    assert "\n" not in str(error.value)


def test_a_broken_gzip_file_is_named(tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(GOOD)[:-9])
    with pytest.raises(UserError, match=r"x\.gz cannot be read"):
        read_idx(tmp_path / "x.gz")


def test_a_label_out_of_range_and_a_wrong_count_are_named(config, tmp_path):
    raw = write_mnist(tmp_path)
    path = raw / "train-labels-idx1-ubyte"
    path.write_bytes(idx(np.arange(40) % 11))
    with pytest.raises(UserError, match="train-labels-idx1-ubyte: a label is 10"):
        data_of(config, "data=mnist", f"data.root={tmp_path}", "data.val_size=0")
    path.write_bytes(idx(np.zeros(39)))
    with pytest.raises(UserError, match="train-labels-idx1-ubyte holds 39 labels for 40 images"):
        data_of(config, "data=mnist", f"data.root={tmp_path}", "data.val_size=0")


def write_amat(root, n=6, gz=False):
    folder = root / "binarized_mnist"
    folder.mkdir()
    arrays = {}
    for part in ("train", "valid", "test"):
        arrays[part] = RNG.integers(0, 2, (n, 784))
        text = "\n".join(" ".join(map(str, row)) for row in arrays[part]).encode() + b"\n"
        path = folder / f"binarized_mnist_{part}.amat{'.gz' * gz}"
        path.write_bytes(gzip.compress(text) if gz else text)
    return arrays


@pytest.mark.parametrize("gz", [False, True])
def test_amat(config, tmp_path, gz):
    arrays = write_amat(tmp_path, gz=gz)
    data = data_of(config, "data=binarized_mnist", f"data.root={tmp_path}")
    for part, name in ((data.train, "train"), (data.val, "valid"), (data.test, "test")):
        assert np.array_equal(to_float(part.images).view(-1, 784).numpy(), arrays[name])


def test_a_broken_amat_file_is_named(tmp_path):
    for text in (b"", b"0 1 0\n", b"2 " * 784):
        (tmp_path / "x.amat").write_bytes(text)
        with pytest.raises(UserError, match=r"x.amat is broken"):
            read_amat(tmp_path / "x.amat")


# --- torchvision's formats -------------------------------------------------------------------------------------------


def write_cifar10(root, monkeypatch):
    """CIFAR-10's own files with 4 images each, and torchvision's list of md5s brought to them."""
    base = root / "cifar-10-batches-py"
    base.mkdir()
    source = torchvision_sets.Cifar10.source
    lists = {}
    for kind in ("train_list", "test_list"):
        entries = []
        for name, _ in getattr(source, kind):
            content = {"data": RNG.integers(0, 256, (4, 3072), dtype=np.uint8), "labels": [0, 9, 5, 3]}
            entries.append([name, _write(base / name, pickle.dumps(content))])
        lists[kind] = entries
    names = pickle.dumps({"label_names": [f"class {i}" for i in range(10)]})
    meta = {**source.meta, "md5": _write(base / source.meta["filename"], names)}
    for key, value in {**lists, "meta": meta}.items():
        monkeypatch.setattr(source, key, value)
    return base


def _write(path, data):
    path.write_bytes(data)
    return hashlib.md5(data).hexdigest()


def test_cifar10(config, tmp_path, monkeypatch):
    base = write_cifar10(tmp_path, monkeypatch)
    settings = ("data=cifar10", f"data.root={tmp_path}", "data.val_size=5")
    data = data_of(config, *settings)
    assert (len(data.train), len(data.val), len(data.test)) == (15, 5, 4)
    assert data.class_names[3] == "class 3"
    content = pickle.loads((base / "test_batch").read_bytes())
    assert np.array_equal(data.test.images.numpy(), content["data"].reshape(4, 3, 32, 32))
    assert data.test.labels.tolist() == [0, 9, 5, 3]

    (base / "data_batch_3").write_bytes(b"torn")
    with pytest.raises(UserError, match="data_batch_3 is broken"):
        data_of(config, *settings)


def test_svhn(config, tmp_path, monkeypatch):
    source = torchvision_sets.Svhn.source
    lists, pixels = dict(source.split_list), {}
    for split in ("train", "test"):
        path = tmp_path / f"{split}_32x32.mat"
        pixels[split] = RNG.integers(0, 256, (32, 32, 3, 8), dtype=np.uint8)
        savemat(path, {"X": pixels[split], "y": np.array([[10, 1, 2, 3, 4, 5, 6, 7]]).T})
        lists[split] = [lists[split][0], path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(source, "split_list", lists)
    data = data_of(config, "data=svhn", f"data.root={tmp_path}", "data.val_size=2")
    assert (len(data.train), len(data.val), len(data.test)) == (6, 2, 8)
    assert np.array_equal(data.test.images.numpy(), pixels["test"].transpose(3, 2, 0, 1))
    assert data.test.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7], "SVHN writes 10 for the digit 0"


# --- absent files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "svhn", "binarized_mnist"])
def test_an_absent_set_says_what_where_and_how(config, tmp_path, name):
    with pytest.raises(UserError) as error:
        data_of(config, f"data={name}", f"data.root={tmp_path}", "data.download=false")
    line = str(error.value)
    assert str(tmp_path) in line
    assert "data.root=" in line
    assert "data=digits needs nothing" in line
    assert "\n" not in line


def test_a_failed_download_is_one_line_and_leaves_nothing(config, tmp_path, monkeypatch):
    from src.data.mnist import Mnist

    class Offline:
        def __init__(self, root, download):
            (tmp_path / "MNIST" / "raw").mkdir(parents=True)
            raise RuntimeError("Error downloading x:\nno network")

    monkeypatch.setattr(Mnist, "source", Offline)
    with pytest.raises(UserError, match=r"cannot be downloaded \(Error downloading x: no network\)"):
        data_of(config, "data=mnist", f"data.root={tmp_path / 'none'}")
    assert not (tmp_path / "none").exists()


def test_present_files_never_touch_the_network(config, tmp_path, monkeypatch):
    import socket

    write_mnist(tmp_path)
    monkeypatch.setattr(socket, "socket", lambda *a, **k: pytest.fail("opened a connection"))
    data_of(config, "data=mnist", f"data.root={tmp_path}", "data.val_size=5")


# --- folders ---------------------------------------------------------------------------------------------------------


def write_folder(root, levels=("",), n=6, suffixes=("jpg", "png", "bmp", "gif", "webp", "tif")):
    for level in levels:
        for i, name in enumerate(("cats", "dogs")):
            folder = root / level / name
            folder.mkdir(parents=True)
            for j in range(n):
                colour = (200 * i, 20 * j, 90)
                Image.new("RGB", (30 + j, 20 + j), colour).save(folder / f"{j}.{suffixes[j % len(suffixes)]}")


def test_a_folder_without_levels_is_cut_by_a_fixed_seed(config, tmp_path):
    write_folder(tmp_path, n=10)
    settings = ("data=folder", f"data.root={tmp_path}", "data.test_size=5", "data.val_size=3", "data.size=16")
    data, again = data_of(config, *settings), data_of(config, *settings, "seed=7")
    assert (len(data.train), len(data.val), len(data.test)) == (12, 3, 5)
    assert data.class_names == ["cats", "dogs"]
    assert data.train.images.shape == (12, 3, 16, 16)
    assert torch.equal(data.test.images, again.test.images)
    assert torch.equal(data.val.labels, again.val.labels)
    reds = data.train.images[:, 0].float().mean((1, 2))
    assert torch.equal(reds > 100, data.train.labels == 1)


@pytest.mark.parametrize("levels", [("train", "test"), ("train", "val", "test"), ("train", "valid")])
def test_a_folder_with_levels_keeps_them(config, tmp_path, levels):
    write_folder(tmp_path, levels)
    data = data_of(config, "data=folder", f"data.root={tmp_path}", "data.test_size=4", "data.val_size=2", "data.size=16")
    assert len(data.val) == (12 if len(levels) == 3 or "valid" in levels else 2)
    assert len(data.test) == (12 if "test" in levels else 4)


def test_a_folder_too_large_for_memory_gives_the_same_batches_by_workers(config, tmp_path):
    write_folder(tmp_path, ("train", "test"))
    settings = ("data=folder", f"data.root={tmp_path}", "data.size=16", "data.val_size=0", "data.batch_size=4", "trainer=cpu")
    kept, lazy = (data_of(config, *settings, f"data.in_memory={keep}") for keep in ("true", "false"))
    assert isinstance(kept.train, ImageSet)
    assert not isinstance(lazy.train, ImageSet)
    for (a, la), (b, lb) in zip(kept.train_dataloader(), lazy.train_dataloader(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(la, lb)


def test_broken_folders_name_what_is_wrong(config, tmp_path):
    def line(*overrides):
        with pytest.raises(UserError) as error:
            data_of(config, "data=folder", f"data.root={tmp_path}", "data.size=16", *overrides)
        return str(error.value)

    assert "holds no class folders" in line()
    write_folder(tmp_path)
    assert "data.num_classes=5, but" in line("data.num_classes=5")
    assert "test_size=50" in line("data.test_size=50")
    (tmp_path / "cats" / "bad.jpg").write_bytes((tmp_path / "cats" / "0.jpg").read_bytes()[:300])
    assert "bad.jpg is not a readable image" in line()
    (tmp_path / "cats" / "bad.jpg").write_bytes(b"")
    assert "bad.jpg is not a readable image" in line()
    (tmp_path / "cats" / "bad.jpg").unlink()
    (tmp_path / "emus").mkdir()
    assert f"{tmp_path / 'emus'}: a class with no images" in line()


def test_a_test_class_unknown_in_training_is_named(config, tmp_path):
    write_folder(tmp_path, ("train", "test"))
    (tmp_path / "test" / "yaks").mkdir()
    with pytest.raises(UserError, match="yaks: no such class"):
        data_of(config, "data=folder", f"data.root={tmp_path}", "data.size=16")


def test_decode_turns_upright_and_crops_the_centre(tmp_path):
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: the left half comes to the top
    image.save(tmp_path / "x.png", exif=exif)
    pixels = decode(tmp_path / "x.png", 10, 1)
    assert pixels.shape == (1, 10, 10)
    assert pixels[0, :4].min() > 200
    assert pixels[0, 6:].max() < 50


# --- splits, sizes, batches ------------------------------------------------------------------------------------------


def test_the_three_sets_are_disjoint_and_whole(config):
    data = data_of(config)
    rows = [{bytes(image.numpy()) for image in part.images} for part in (data.train, data.val, data.test)]
    assert sum(len(part) for part in (data.train, data.val, data.test)) == 1797
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]
    assert not rows[1] & rows[2]


def test_limit_and_train_size(config):
    data = data_of(config, "data.train_size=700", "data.val_size=50")
    assert (len(data.train), len(data.val), len(data.test)) == (700, 50, 360)
    data = data_of(config, "data.limit=30")
    assert [len(part) for part in (data.train, data.val, data.test)] == [30, 30, 30]
    with pytest.raises(UserError, match=r"data\.train_size=1500 and data.val_size=180 do not fit digits"):
        data_of(config, "data.train_size=1500")


def test_every_run_of_every_seed_is_measured_on_the_same_images(config):
    one, other = data_of(config, "seed=0"), data_of(config, "seed=1")
    assert torch.equal(one.test.images, other.test.images)
    assert torch.equal(one.val.images, other.val.images)
    elsewhere = data_of(config, "data.split_seed=1")
    assert not torch.equal(one.test.images, elsewhere.test.images)


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 1), (14, 1)])
def test_resized(size, channels):
    images = ImageSet(torch.arange(256).byte().view(1, 1, 16, 16).repeat(3, 1, 1, 1), torch.zeros(3).long())
    out = resized(images, size, channels).images
    assert out.shape == (3, channels, size, size)
    assert out.float().mean().item() == pytest.approx(127.5, abs=1.5)
    assert resized(images, 16, 1).images.equal(images.images), "identity is exact"


def test_colour_to_grey_is_itu_601():
    red = torch.tensor([255, 0, 0]).byte().view(1, 3, 1, 1).repeat(1, 1, 4, 4)
    assert resized(ImageSet(red, torch.zeros(1)), 4, 1).images.unique().tolist() == [76]


def test_batches_are_floats_in_0_1(config):
    data = data_of(config)
    batch = next(iter(data.train_dataloader()))
    assert batch[0].dtype == torch.uint8
    images, labels = data.on_after_batch_transfer(batch, 0)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < 0.01
    assert 0.99 < images.max() <= 1
    assert torch.equal(images, batch[0].float() / 255)
    assert labels.dtype == torch.int64


def test_a_batch_is_one_call(config):
    data = data_of(config, "data.limit=100", "data.batch_size=32")
    calls = []
    get = data.train.__class__.__getitem__
    data.train.__class__.__getitem__ = lambda self, indices: (calls.append(len(indices)), get(self, indices))[1]
    try:
        list(data.train_dataloader())
    finally:
        data.train.__class__.__getitem__ = get
    assert calls == [32, 32, 32, 4]


def batches(**changes):
    settings = {"n": 100, "batch_size": 32, "seed": 0, "shuffle": True, **changes}
    sampler = EpochSampler(**settings)
    out = [batch.tolist() for batch in sampler]
    assert len(out) == len(sampler) or "position" in changes
    return out


def test_the_order_is_a_function_of_seed_and_epoch():
    first = batches()
    torch.manual_seed(12345)
    assert batches() == first
    assert sorted(i for batch in first for i in batch) == list(range(100)), "every image once an epoch"
    assert batches(seed=1) != first
    assert batches(position=lambda: (1, 0)) != first


def test_a_resumed_epoch_begins_where_it_was_cut():
    assert batches(position=lambda: (0, 2)) == batches()[2:]


def test_a_single_image_left_over_joins_the_batch_before():
    assert [len(batch) for batch in batches(n=65)] == [32, 33]
    assert [len(batch) for batch in batches(n=66)] == [32, 32, 2]
    assert [len(batch) for batch in batches(n=1)] == [1]


def test_ranks_share_an_epoch_in_equal_batches():
    parts = [batches(rank=rank, world=3, batch_size=10) for rank in range(3)]
    assert len({len(part) for part in parts}) == 1
    seen = [i for part in parts for batch in part for i in batch]
    assert set(seen) == set(range(100))
    assert len(seen) == 102


# --- the real files, where they are ----------------------------------------------------------------------------------

shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"real data for development are not at {SHARED}")


@shared
def test_the_real_mnist(config):
    data = data_of(config, "data=mnist", f"data.root={SHARED}", "data.train_size=50000")
    assert (len(data.train), len(data.val), len(data.test)) == (50000, 5000, 10000)
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert data.test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@shared
def test_the_real_binarised_mnist(config):
    data = data_of(config, "data=binarized_mnist", f"data.root={SHARED}")
    assert (len(data.train), len(data.val), len(data.test)) == (50000, 10000, 10000)
    assert data.test.images.unique().tolist() == [0, 255]


@pytest.mark.slow
def test_a_missing_set_on_the_command_line(tmp_path):
    result = command("train", "data=mnist", "data.download=false", f"data.root={tmp_path}", f"out={tmp_path / 'runs'}")
    assert result.returncode == 2
    assert result.stderr.startswith("error: mnist: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()
