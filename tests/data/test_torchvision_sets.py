"""CIFAR and SVHN, from small files in their own formats."""

import pickle

import numpy as np
import pytest

from src.core.errors import UserError
from src.data.sets import torchvision_sets
from tests.conftest import data_of
from tests.data.writers import write_cifar, write_svhn

CIFARS = {
    "cifar10": (
        torchvision_sets.Cifar10,
        "labels",
        10,
        (15, 5, 4),
        ["data_batch_3", "test_batch", "batches.meta"],
    ),
    "cifar100": (
        torchvision_sets.Cifar100,
        "fine_labels",
        100,
        (3, 1, 4),
        ["train", "test", "meta"],
    ),
}


@pytest.mark.parametrize("name", CIFARS)
def test_cifar_is_read(config, tmp_path, monkeypatch, name):
    family, labels_key, n, sizes, files = CIFARS[name]
    base = write_cifar(family.source, tmp_path, monkeypatch, labels_key, n - 1)
    settings = (
        f"data={name}",
        f"data.root={tmp_path}",
        f"data.val_size={sizes[1]}",
        "data.download=false",
    )
    data = data_of(config, *settings)
    assert (len(data.train), len(data.val), len(data.test)) == sizes
    assert data.class_names == [f"class {i}" for i in range(n)]
    content = pickle.loads((base / files[1]).read_bytes())
    assert np.array_equal(data.test.images.numpy(), content["data"].reshape(4, 3, 32, 32))
    assert data.test.labels.tolist() == [0, n - 1, 5, 3]

    for file in files:
        whole = (base / file).read_bytes()
        (base / file).write_bytes(whole[:-1])
        with pytest.raises(UserError, match=f"{file} is damaged"):
            data_of(config, *settings)
        (base / file).unlink()
        with pytest.raises(UserError, match=f"{file} does not exist"):
            data_of(config, *settings)
        (base / file).write_bytes(whole)


def test_svhn_is_read(config, tmp_path, monkeypatch):
    pixels = write_svhn(tmp_path, monkeypatch)
    data = data_of(config, "data=svhn", f"data.root={tmp_path}", "data.val_size=2")
    assert (len(data.train), len(data.val), len(data.test)) == (6, 2, 8)
    assert np.array_equal(data.test.images.numpy(), pixels["test"].transpose(3, 2, 0, 1))
    assert data.test.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7], "SVHN writes 10 for the digit 0"
