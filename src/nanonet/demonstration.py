"""Photos for a demonstration without a download: some of scikit-learn's digits, as files."""

import shutil
from pathlib import Path

from PIL import Image

NAME = Path("demonstration")
PER_CLASS, SCALE = 20, 12  # images of each digit; pixels per pixel


def write(folder: Path) -> Path:
    """Write the images into a new folder, with a sub-folder for each digit; return it."""
    from sklearn.datasets import load_digits

    if folder.is_dir():
        return folder
    scratch = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    digits = load_digits()
    for digit in range(10):
        place = scratch / str(digit)
        place.mkdir(parents=True)
        for number, pixels in enumerate(digits.images[digits.target == digit][:PER_CLASS]):
            image = Image.fromarray((pixels * 255 / 16).round().astype("uint8"))
            image.resize((8 * SCALE, 8 * SCALE), Image.Resampling.BICUBIC).save(
                place / f"{number:02}.png"
            )
    return scratch.rename(folder)
