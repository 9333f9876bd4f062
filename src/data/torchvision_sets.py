"""Colour sets in torchvision's own file formats, read by torchvision, which checks each file's md5."""

from pathlib import Path

import torch
import torchvision
from torchvision.datasets.utils import check_integrity

from src.data.base import ImageData, ImageSet, Splits
from src.data.download import fetched
from src.errors import UserError


class Cifar10(ImageData):
    """Krizhevsky's CIFAR-10: 50,000 and 10,000 images, 32 x 32, from root/cifar-10-batches-py."""

    source = torchvision.datasets.CIFAR10

    def read(self) -> Splits:
        base = self.root / self.source.base_folder
        files = [(base / name, md5) for name, md5 in self.source.train_list + self.source.test_list]
        _check(self, files, lambda: self.source(str(self.root), download=True))
        parts = {train: self.source(str(self.root), train=train) for train in (True, False)}
        self.class_names = list(parts[True].classes)
        train, test = (
            ImageSet(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
            for part in (parts[True], parts[False])
        )
        return Splits(train=train, test=test)


class Svhn(ImageData):
    """Netzer's street view house numbers, cropped: 73,257 and 26,032 images, 32 x 32, from root/{train,test}_32x32.mat."""

    source = torchvision.datasets.SVHN

    def read(self) -> Splits:
        parts = []
        for split in ("train", "test"):
            _, name, md5 = self.source.split_list[split]
            _check(self, [(self.root / name, md5)], lambda split=split: self.source(str(self.root), split, download=True))
            part = self.source(str(self.root), split)
            parts.append(ImageSet(torch.from_numpy(part.data), torch.from_numpy(part.labels).long()))
        return Splits(train=parts[0], test=parts[1])


def _check(data: ImageData, files: list[tuple[Path, str]], download) -> None:
    """Download where a file is absent; a file that is there and broken is named, never fetched over."""
    missing = [path for path, _ in files if not path.is_file()]
    if missing:
        fetched(data, missing[0], download)
    for path, md5 in files:
        if not check_integrity(str(path), md5):
            raise UserError(f"{data.name}: {path} is broken: its md5 is not {md5}; delete it and fetch it again")
