"""Images for the benchmarks: made-up ones like MNIST and CIFAR-10, and folders of any number."""

import itertools
import os
import shutil
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from src.core.errors import UserError
from src.core.image_files import images_below

MNIST = (("train", 60_000), ("t10k", 10_000))
PER_CLASS = (("train", 500), ("test", 50))


def made_up_mnist(folder: Path) -> Path:
    """Write scikit-learn's digits in MNIST's files, repeated to as many images; return `folder`."""
    from src.data.sets.digits import enlarged, load_digits

    scans, labels = load_digits()
    digits = enlarged(scans).numpy()
    place = folder / "MNIST" / "raw"
    place.mkdir(parents=True)
    for split, n in MNIST:
        chosen = np.arange(n) % len(digits)
        head = struct.pack(">4i", 2051, n, *digits.shape[2:])
        (place / f"{split}-images-idx3-ubyte").write_bytes(head + digits[chosen].tobytes())
        head = struct.pack(">2i", 2049, n)
        shown = labels.numpy()[chosen].astype(np.uint8).tobytes()
        (place / f"{split}-labels-idx1-ubyte").write_bytes(head + shown)
    return folder


def made_up_images(folder: Path, classes: int = 10) -> Path:
    """Write color JPEGs of 32 x 32 pixels with smooth noise, in class folders; return `folder`."""
    rng = np.random.default_rng(0)
    for split, n in PER_CLASS:
        for label in range(classes):
            place = folder / split / f"class_{label}"
            place.mkdir(parents=True)
            for number in range(n):
                coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
                image = coarse.resize((32, 32), Image.Resampling.BICUBIC)
                image.save(place / f"{number:04}.jpg", quality=95)
    return folder


def linked_images(source: Path, n: int, folder: Path) -> Path:
    """Make a folder of `n` images with the classes of `source`; return `folder`.

    Its files are hard links to those of `source`, one of each class in turn. If these are fewer,
    some have several links, which are read as different images. Files that cannot be linked are
    copied.

    Args:
        source: a folder with class folders at any depth.
        n: number of images, at least one of each class.

    Raises:
        UserError: there are no images in `source`.
    """
    classes: dict[str, list[Path]] = {}
    for path in images_below(source).images:
        classes.setdefault(path.parent.name, []).append(path)
    if not classes:
        raise UserError(f"{source}: no images in class folders")
    for name in classes:
        (folder / name).mkdir(parents=True)
    in_turn = zip(*(itertools.cycle(paths) for paths in classes.values()), strict=True)
    for k, path in enumerate(itertools.islice(itertools.chain.from_iterable(in_turn), n)):
        to = folder / path.parent.name / f"{k:07}{path.suffix}"
        try:
            os.link(path.resolve(), to)
        except OSError:  # another file system, or as many links as it allows
            shutil.copyfile(path, to)
    return folder
