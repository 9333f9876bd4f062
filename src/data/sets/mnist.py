"""MNIST, the sets that share its file format (idx), and binarized MNIST, which is a text file."""

import gzip
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torchvision
from torch import Tensor

from src.core.counts import count
from src.core.errors import UserError
from src.core.types import InputPath
from src.data.download import download_missing
from src.data.image_data import ImageData
from src.data.images import Images, ImageSet, Splits
from src.data.transforms.pixels import place_randomly


class Mnist(ImageData):
    """LeCun's MNIST: 60,000 training and 10,000 test images of 28 x 28 pixels.

    Reads idx files, gzipped or not, from root/MNIST/raw.
    """

    folder = "MNIST"
    source: type[torchvision.datasets.MNIST] = torchvision.datasets.MNIST

    def read(self) -> Splits:
        raw = self.root / self.folder / "raw"
        stems = [
            f"{part}-{kind}"
            for part in ("train", "t10k")
            for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
        ]
        download_missing(
            self,
            lambda: next((raw / stem for stem in stems if _existing(raw / stem) is None), None),
            lambda: self.source(str(self.root), download=True),
        )
        train_images, train_labels, test_images, test_labels = (
            read_idx(_existing(raw / stem) or raw / stem) for stem in stems
        )
        return Splits(
            train=_with_labels(train_images, train_labels, raw / stems[1]),
            test=_with_labels(test_images, test_labels, raw / stems[3]),
        )


class FashionMnist(Mnist):
    """Zalando's Fashion-MNIST, in MNIST's format and sizes, from root/FashionMNIST/raw."""

    folder = "FashionMNIST"
    source = torchvision.datasets.FashionMNIST

    def read(self) -> Splits:
        self.class_names = list(self.source.classes)
        return super().read()


class TwoDigitMnist(Mnist):
    """Two digits placed at random in one image, added and clipped at 1 (Gregor 2015, section 4.3).

    The paper's images are 60 x 60. In training, each digit is paired with another digit of its
    batch, at new places in every epoch. No labels.
    """

    labeled = False
    randomizes = True
    supports: ClassVar = {
        "channels": ((1,), "the images are gray"),
        "crop": ((1.0,), "the digits are placed whole"),
    }

    def read(self) -> Splits:
        splits = super().read()
        for part in (splits.train, splits.test):
            part.labels.fill_(-1)
        return splits

    def _resized(self, part: Images) -> Images:
        if min(self.size) < 28:
            raise UserError(
                f"data.size={list(self.size)} does not fit {self.name}: "
                "an image must hold a digit of 28 x 28"
            )
        if self.batch_size == 1:
            raise UserError(f"data.batch_size=1 does not fit {self.name}: digits are paired")
        return part

    def randomize(self, images: Tensor, noise: torch.Generator) -> Tensor:
        others = images.roll(1, 0)
        first = place_randomly(images, self.size, noise)
        both = first + place_randomly(others, self.size, noise)
        return super().randomize(both.clamp(max=1.0), noise)


class BinarizedMnist(ImageData):
    """Larochelle's fixed binarization of MNIST, on which the nats of DRAW are reported.

    50,000 / 10,000 / 10,000 images with values 0 and 1, no labels. Reads
    root/binarized_mnist/binarized_mnist_{train,valid,test}.amat, or the same with .gz.
    """

    labeled = False
    pixel_kind = "fixed binarization"
    supports: ClassVar = {
        "size": ((28,), "resized images would not be binary"),
        "crop": ((1.0,), "images that are cropped and enlarged would not be binary"),
        "channels": ((1,), "the images are gray"),
    }

    def __init__(self, root: InputPath, **settings: Any) -> None:
        super().__init__(root=root, **settings)

    def read(self) -> Splits:
        folder = self.root / "binarized_mnist"
        paths = [folder / f"binarized_mnist_{part}.amat" for part in ("train", "valid", "test")]
        for path in paths:
            if _existing(path) is None:
                raise UserError(
                    f"{self.name}: {path} (or {path.name}.gz) does not exist; put the three .amat "
                    f"files of Larochelle's binarized MNIST into {folder}, or name its parent "
                    "folder: data.root=DIR; data=digits needs no download"
                )
        train, val, test = (read_amat(_existing(path) or path) for path in paths)
        return Splits(train=train, val=val, test=test)


def read_idx(path: Path) -> torch.Tensor:
    """Read an idx file of unsigned bytes, gzipped or not.

    Returns:
        A uint8 tensor of the shape that the file's header gives.

    Raises:
        UserError: the file has another format, or is damaged.
    """
    data = _read_bytes(path)
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise UserError(
            f"{path} is not an idx file of unsigned bytes: "
            f"it starts with {data[:4].hex() or 'nothing'}, not 000008.."
        )
    rank = data[3]
    start = 4 + 4 * rank
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    expected = start + int(np.prod(shape, dtype=np.int64))
    if len(data) < start or len(data) != expected or 0 in shape:
        raise UserError(
            f"{path} is damaged: it has {len(data)} bytes, but its header (shape {shape}) "
            f"says {expected}"
        )
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy())


def read_amat(path: Path) -> ImageSet:
    """Read a text file with one image per line: 784 numbers, each 0 or 1.

    Returns:
        Images (N, 1, 28, 28) with values 0 and 255, and labels -1.

    Raises:
        UserError: the file is damaged.
    """
    data = np.frombuffer(_read_bytes(path), np.uint8)
    digits = data[(data != ord(" ")) & (data != ord("\n")) & (data != ord("\r"))] - ord("0")
    if digits.size == 0 or digits.size % 784 or digits.max() > 1:
        raise UserError(f"{path} is damaged: it should hold lines of 784 numbers, each 0 or 1")
    images = torch.from_numpy(digits.reshape(-1, 1, 28, 28) * np.uint8(255))
    return ImageSet(images, torch.full((len(images),), -1))


def _existing(path: Path) -> Path | None:
    """Return `path` or path.gz, whichever exists; None if neither does."""
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def _read_bytes(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _with_labels(images: torch.Tensor, labels: torch.Tensor, path: Path) -> ImageSet:
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise UserError(
            f"{path} holds {count(len(labels), 'label')} for {count(len(images), 'image')}"
        )
    if labels.max() > 9:
        raise UserError(f"{path}: a label is {int(labels.max())}, but there are 10 classes, 0 to 9")
    return ImageSet(images.unsqueeze(1), labels.long())
