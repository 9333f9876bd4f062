"""Oxford-IIIT Pets: photographs of cats and dogs, told apart by breed or by species."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torchvision

from src.core.errors import UserError
from src.data.base import ImageData
from src.data.download import download_missing
from src.data.images import Splits, resolve_classes
from src.data.sets.folder import FileSet, load_or_stream, make_file_set

SPECIES = ("cat", "dog")


class Pet(NamedTuple):
    """A line of a list: `american_bulldog_168 2 2 1` is an image, its breed's number from 1, 1 cat or 2 dog, one unused."""

    image: str
    breed: str
    number: int
    species: str


class Pets(ImageData):
    """Parkhi's Oxford-IIIT Pets (2012): 37 breeds, 3,680 photographs to train, 3,669 to test, from root/oxford-iiit-pet.

    Args:
        classes: `breeds`, or None: all of them, in the lists' order; `species`: cat and dog; or a list of breeds, labelled in
            its order and the only ones that are read.
        settings: of `ImageData`.
    """

    def __init__(
        self, classes: Literal["breeds", "species"] | Sequence[str] | None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.classes = classes

    def read(self) -> Splits:
        folder = self.root / "oxford-iiit-pet"
        absent = [path for path in (folder / "images", folder / "annotations") if not path.is_dir()]
        if absent:
            download_missing(
                self,
                absent[0],
                lambda: torchvision.datasets.OxfordIIITPet(str(self.root), download=True),
            )
        train, test = (
            _listed(folder / "annotations" / f"{part}.txt") for part in ("trainval", "test")
        )
        _check(folder, train, test)
        breeds = [breed for _, breed in sorted({(pet.number, pet.breed) for pet in train})]
        if self.classes == "species":
            self.set_classes(list(SPECIES), folder)
        else:
            self.set_classes(
                breeds
                if self.classes in ("breeds", None)
                else resolve_classes(self.classes, breeds, _plain),
                folder,
            )
        return Splits(*load_or_stream(self, [self._files(folder, part) for part in (train, test)]))

    def _files(self, folder: Path, pets: list[Pet]) -> FileSet:
        classes = [pet.species if self.classes == "species" else pet.breed for pet in pets]
        taken = [
            (pet, name) for pet, name in zip(pets, classes, strict=True) if name in self.class_names
        ]
        paths = [folder / "images" / f"{pet.image}.jpg" for pet, _ in taken]
        return make_file_set(
            self, paths, torch.tensor([self.class_names.index(name) for _, name in taken])
        )


def _plain(breed: str) -> str:
    return re.sub(r"[\s_-]", "", breed).lower()


def _listed(path: Path) -> list[Pet]:
    """The pets that the file at `path` lists; raises UserError that names the line that is none."""
    if not path.is_file():
        raise UserError(
            f"{path} is not there, though its folder is: delete {path.parent.parent} and fetch it again"
        )
    pets = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        match = re.fullmatch(r"((\w+)_\d+) (\d+) ([12]) \d+", line.strip())
        if not match:
            raise UserError(
                f"{path}, line {number} is '{line[:80]}', not an image and three numbers as in 'Abyssinian_12 1 1 1'"
            )
        image, breed, of_all, species = match.groups()
        pets.append(Pet(image, breed, int(of_all), SPECIES[int(species) - 1]))
    return pets


def _check(folder: Path, train: list[Pet], test: list[Pet]) -> None:
    """Raise UserError where files are missing, or the lists do not go together: a half-extracted archive must not pass."""
    again = f"delete {folder} and fetch it again"
    images = [folder / "images" / f"{pet.image}.jpg" for pet in train + test]
    missing = [path for path in images if not path.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(images)} images of pets are missing, the first is {missing[0]}: {again}"
        )
    one_sided = {pet.breed for pet in train} ^ {pet.breed for pet in test}
    if one_sided or not train:
        what = f"only one of them has {min(one_sided)}" if one_sided else "they are empty"
        raise UserError(
            f"{folder / 'annotations'}: trainval.txt and test.txt do not go together, {what}: {again}"
        )
    if both := {pet.image for pet in train} & {pet.image for pet in test}:
        raise UserError(
            f"{folder / 'annotations'}: trainval.txt and test.txt both list {min(both)}: {again}"
        )
