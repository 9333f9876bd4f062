"""Color sets in torchvision's file formats, read by torchvision, which checks each file's MD5."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torchvision
from torchvision.datasets.utils import check_integrity, download_and_extract_archive

from src.core.errors import UserError
from src.data.download import download_missing
from src.data.image_data import ImageData
from src.data.images import ImageSet, Splits


class Cifar10(ImageData):
    """Krizhevsky's CIFAR-10: 50,000 training and 10,000 test images of 32 x 32 pixels.

    Reads root/cifar-10-batches-py.
    """

    source: type[torchvision.datasets.CIFAR10] = torchvision.datasets.CIFAR10

    def read(self) -> Splits:
        source = self.source
        # torchvision downloads the archive only if a batch file is missing, not for this file
        class_names = (source.meta["filename"], source.meta["md5"])
        files = [
            (self.root / source.base_folder / name, md5)
            for name, md5 in (*source.train_list, *source.test_list, class_names)
        ]
        _ensure_complete(
            self,
            files,
            lambda: download_and_extract_archive(
                source.url, str(self.root), None, source.filename, source.tgz_md5
            ),
        )
        parts = {train: source(str(self.root), train=train) for train in (True, False)}
        self.class_names = list(parts[True].classes)
        train, test = (
            ImageSet(
                torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(),
                torch.tensor(part.targets),
            )
            for part in (parts[True], parts[False])
        )
        return Splits(train=train, test=test)


class Cifar100(Cifar10):
    """Krizhevsky's CIFAR-100 with its 100 fine classes: 50,000 and 10,000 images of 32 x 32.

    Reads root/cifar-100-python.
    """

    source = torchvision.datasets.CIFAR100


class Svhn(ImageData):
    """Netzer's street view house numbers, cropped: 73,257 and 26,032 images of 32 x 32 pixels.

    Reads root/{train,test}_32x32.mat.
    """

    source = torchvision.datasets.SVHN

    def read(self) -> Splits:
        parts = []
        for split in ("train", "test"):
            _, name, md5 = self.source.split_list[split]
            _ensure_complete(
                self,
                [(self.root / name, md5)],
                partial(self.source, str(self.root), split, download=True),
            )
            part = self.source(str(self.root), split)
            labels = torch.from_numpy(part.labels).long()
            parts.append(ImageSet(torch.from_numpy(part.data), labels))
        return Splits(train=parts[0], test=parts[1])


def _ensure_complete(
    data: ImageData, files: list[tuple[Path, str]], download: Callable[[], object]
) -> None:
    """Download if a file is missing; raise UserError if one is damaged, without overwriting it.

    Args:
        data: the set.
        files: paths and MD5 digests.
        download: downloads all of them.
    """
    download_missing(
        data, lambda: next((path for path, _ in files if not path.is_file()), None), download
    )
    for path, md5 in files:
        if not check_integrity(str(path), md5):
            raise UserError(
                f"{data.name}: {path} is damaged: its MD5 is not {md5}; "
                "delete it and download it again"
            )
