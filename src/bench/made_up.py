"""Images for the benchmark where MNIST and CIFAR-10 are missing: as many, or of the same kind."""

import struct
from pathlib import Path

import numpy as np
from PIL import Image

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
