"""Small data sets in the formats of the real ones."""

import colorsys
import gzip
import hashlib
import pickle

import numpy as np
from PIL import Image
from scipy.io import savemat

from src.data.sets import torchvision_sets

RNG = np.random.default_rng(0)
# their species are 1 (cat) or 2 (dog); their numbers are their places in this list
BREEDS = [("Abyssinian", 1), ("american_bulldog", 2), ("Bengal", 1), ("Maine_Coon", 1)]


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_mnist(root, folder="MNIST", gz=False, n=40):
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", n), ("t10k", 20)):
        images, labels = RNG.integers(0, 256, (count, 28, 28)), np.arange(count) % 10
        for stem, array in (
            (f"{part}-images-idx3-ubyte", images),
            (f"{part}-labels-idx1-ubyte", labels),
        ):
            data = idx(array)
            (raw / (stem + ".gz" * gz)).write_bytes(gzip.compress(data) if gz else data)
    return raw


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


def write_cifar(source, root, monkeypatch, labels_key, last):
    """Write CIFAR files with 4 images each, and put their MD5 digests into torchvision's list."""
    base = root / source.base_folder
    base.mkdir()
    lists = {}
    for kind in ("train_list", "test_list"):
        entries = []
        for name, _ in getattr(source, kind):
            content = {
                "data": RNG.integers(0, 256, (4, 3072), dtype=np.uint8),
                labels_key: [0, last, 5, 3],
            }
            entries.append([name, _write(base / name, pickle.dumps(content))])
        lists[kind] = entries
    names = pickle.dumps({source.meta["key"]: [f"class {i}" for i in range(last + 1)]})
    meta = {**source.meta, "md5": _write(base / source.meta["filename"], names)}
    for key, value in {**lists, "meta": meta}.items():
        monkeypatch.setattr(source, key, value)
    return base


def write_svhn(root, monkeypatch):
    """Write SVHN files with 8 images each; return their pixels (32, 32, 3, 8) by split."""
    source = torchvision_sets.Svhn.source
    lists, pixels = dict(source.split_list), {}
    for split in ("train", "test"):
        path = root / f"{split}_32x32.mat"
        pixels[split] = RNG.integers(0, 256, (32, 32, 3, 8), dtype=np.uint8)
        savemat(path, {"X": pixels[split], "y": np.array([[10, 1, 2, 3, 4, 5, 6, 7]]).T})
        lists[split] = [lists[split][0], path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(source, "split_list", lists)
    return pixels


def _write(path, data):
    path.write_bytes(data)
    return hashlib.md5(data).hexdigest()


def write_pets(root):
    """Write Oxford-IIIT Pets: 6 training and 3 test images of each breed, each of one color."""
    folder = root / "oxford-iiit-pet"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    lines = {"trainval": [], "test": []}
    for number, (breed, species) in enumerate(BREEDS, 1):
        for i in range(9):
            name, color = f"{breed}_{i + 1}", colorsys.hsv_to_rgb(number / 5, 1, (i + 1) / 10)
            pixels = np.full((40 + i, 50 - i, 3), [round(255 * c) for c in color], np.uint8)
            Image.fromarray(pixels).save(
                folder / "images" / f"{name}.jpg", quality=100, subsampling=0
            )
            lines["test" if i % 3 == 2 else "trainval"].append(f"{name} {number} {species} 1")
    for part, its in lines.items():
        # the order of the breeds is that of their numbers, not of the lines
        mixed = [its[i] for i in np.random.default_rng(0).permutation(len(its))]
        (folder / "annotations" / f"{part}.txt").write_text("\n".join(mixed) + "\n")
