"""Oxford-IIIT Pets: photographs of cats and dogs, labeled by breed or by species."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torchvision

from src.core.errors import UserError
from src.data.download import download_missing
from src.data.image_data import ImageData
from src.data.images import Splits
from src.data.sets.files import FileSet, load_or_stream, make_file_set
from src.data.splits import resolve_classes

SPECIES = ("cat", "dog")


class Pet(NamedTuple):
    """One line of an annotation file, such as `american_bulldog_168 2 2 1`.

    Attributes:
        image: name of the image file, without its extension.
        breed: name of the breed.
        breed_number: from 1.
        species: cat (1 in the file) or dog (2).
    """

    image: str
    breed: str
    breed_number: int
    species: str


class Pets(ImageData):
    """Parkhi's Oxford-IIIT Pets (2012): 37 breeds, 3,680 training and 3,669 test photographs.

    Reads root/oxford-iiit-pet.

    Args:
        classes: `breeds` or None: all breeds, in the order of the annotation files; `species`: cat
            and dog; or a list of breeds, labeled in its order; other breeds are not read.
        settings: settings of `ImageData`.
    """

    def __init__(
        self, classes: Literal["breeds", "species"] | Sequence[str] | None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.classes = classes

    def read(self) -> Splits:
        folder = self.root / "oxford-iiit-pet"
        folders = (folder / "images", folder / "annotations")
        download_missing(
            self,
            lambda: next((path for path in folders if not path.is_dir()), None),
            lambda: torchvision.datasets.OxfordIIITPet(str(self.root), download=True),
        )
        train, test = (
            _read_annotations(folder / "annotations" / f"{part}.txt")
            for part in ("trainval", "test")
        )
        _check_complete(folder, train, test)
        self.set_classes(self._class_names(train), folder)
        return Splits(*load_or_stream(self, [self._files(folder, part) for part in (train, test)]))

    def _class_names(self, train: list[Pet]) -> list[str]:
        if self.classes == "species":
            return list(SPECIES)
        breeds = [breed for _, breed in sorted({(pet.breed_number, pet.breed) for pet in train})]
        if self.classes in ("breeds", None):
            return breeds
        return resolve_classes(self.classes, breeds, _normalize)

    def _files(self, folder: Path, pets: list[Pet]) -> FileSet:
        paths, labels = [], []
        for pet in pets:
            name = pet.species if self.classes == "species" else pet.breed
            if name in self.class_names:
                paths.append(folder / "images" / f"{pet.image}.jpg")
                labels.append(self.class_names.index(name))
        return make_file_set(self, paths, torch.tensor(labels))


def _normalize(breed: str) -> str:
    """Return the name of a breed without case, spaces, underscores and hyphens."""
    return re.sub(r"[\s_-]", "", breed).lower()


def _read_annotations(path: Path) -> list[Pet]:
    """Read the pets that a file lists; raises UserError that names a line it cannot read."""
    if not path.is_file():
        raise UserError(
            f"{path} does not exist, but its folder does: "
            f"delete {path.parent.parent} and download it again"
        )
    pets = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        match = re.fullmatch(r"((\w+)_\d+) (\d+) ([12]) \d+", line.strip())
        if not match:
            raise UserError(
                f"{path}, line {number} is '{line[:80]}', "
                "not an image and three numbers as in 'Abyssinian_12 1 1 1'"
            )
        image, breed, breed_number, species = match.groups()
        pets.append(Pet(image, breed, int(breed_number), SPECIES[int(species) - 1]))
    return pets


def _check_complete(folder: Path, train: list[Pet], test: list[Pet]) -> None:
    """Raise UserError if files are missing or the lists do not match."""
    advice = f"delete {folder} and download it again"
    annotations = f"{folder / 'annotations'}: trainval.txt and test.txt"
    images = [folder / "images" / f"{pet.image}.jpg" for pet in train + test]
    missing = [path for path in images if not path.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(images)} images of pets are missing, "
            f"the first is {missing[0]}: {advice}"
        )
    if one_sided := {pet.breed for pet in train} ^ {pet.breed for pet in test}:
        raise UserError(
            f"{annotations} do not match, only one of them has {min(one_sided)}: {advice}"
        )
    if not train:
        raise UserError(f"{annotations} do not match, they are empty: {advice}")
    if both := {pet.image for pet in train} & {pet.image for pet in test}:
        raise UserError(f"{annotations} both list {min(both)}: {advice}")
