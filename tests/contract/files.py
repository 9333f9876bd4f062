"""Small files for every data set, so that each choice of data= can be built without a download."""

from collections.abc import Callable
from pathlib import Path

import pytest

from src.data.sets import torchvision_sets
from tests.contract.small import STAND_INS, data_class_of
from tests.data.writers import write_amat, write_cifar, write_mnist, write_pets, write_svhn

Writer = Callable[[Path, pytest.MonkeyPatch], object]
# class of a data set -> a function that writes small files of it
WRITERS: dict[str, Writer] = {
    "Mnist": lambda root, patch: write_mnist(root),
    "FashionMnist": lambda root, patch: write_mnist(root, "FashionMNIST"),
    "TwoDigitMnist": lambda root, patch: write_mnist(root),
    "BinarizedMnist": lambda root, patch: write_amat(root),
    "Cifar10": lambda root, patch: write_cifar(
        torchvision_sets.Cifar10.source, root, patch, "labels", 9
    ),
    "Cifar100": lambda root, patch: write_cifar(
        torchvision_sets.Cifar100.source, root, patch, "fine_labels", 99
    ),
    "Svhn": lambda root, patch: write_svhn(root, patch),
    "Pets": lambda root, patch: write_pets(root),
}
WRITTEN = ("data.root=ROOT", "data.val_size=1", "data.download=false")
# class -> overrides; INPUTS is the fixture's folder, and ROOT the folder of the written files
SETTINGS = {
    "Digits": ("data.limit=12", "data.val_size=6"),
    "Reviews": (),
    "StylePair": STAND_INS["a photograph and a style"][1:5],
    "Winter": STAND_INS["two domains of images"][1:],
    "Unpaired": (
        "data.root_a=INPUTS/photos/cats",
        "data.root_b=INPUTS/photos/dogs",
        "data.size=16",
        "data.batch_size=4",
        "data.val_size=2",
        "data.test_size=2",
    ),
    "Folder": ("data.root=INPUTS/photos", "data.size=16", "data.val_size=4", "data.test_size=4"),
    "Pets": ("data.root=ROOT", "data.size=16", "data.val_size=4", "data.download=false"),
    "BinarizedMnist": ("data.root=ROOT",),
    "TwoDigitMnist": (*WRITTEN, "data.size=32"),
    "Cifar100": ("data.root=ROOT", "data.val_size=0", "data.download=false"),
}


def overrides_of(data: str, inputs: Path, root: Path, patch: pytest.MonkeyPatch) -> list[str]:
    """Write the files of a choice of data= below `root`; return its overrides.

    Skips the test if the files are unknown.
    """
    name = data_class_of(data).rpartition(".")[2]
    if name not in WRITERS and name not in SETTINGS:
        pytest.skip(f"no small files for {name}: add a writer to tests/contract/files.py")
    if name in WRITERS:
        WRITERS[name](root, patch)
    words = [
        word.replace("INPUTS", str(inputs)).replace("ROOT", str(root))
        for word in SETTINGS.get(name, WRITTEN)
    ]
    return [f"data={data}", *words]
