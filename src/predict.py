"""Classify images with a finished run.

python -m src.predict run=DIR images=photo.jpg              one image
python -m src.predict run=DIR images=PHOTOS top=5           a folder, five classes per image
python -m src.predict run=DIR images='PHOTOS/**/*.jpg'      a glob, in quotes because of the shell
python -m src.predict run=DIR images='[a.png,PHOTOS]' out=predictions.csv picture=null

Reads any format, size and mode that Pillow reads, and HEIC if pillow-heif is installed. Images are
rotated by EXIF, blended over the run's background, converted to the run's channels, and scaled and
center cropped as in the run. They are not inverted: a network trained on white digits needs white
digits. In folders, hidden files and files without an image extension are left out; their number
is printed to stderr. Files that are named or matched by a glob are always tried. Unreadable ones
are listed on stderr, and the exit code is then 1.
"""

import csv
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from omegaconf import DictConfig
from tqdm import tqdm

from src.config import cli
from src.config.saved import expect_classifier
from src.core.chosen_checkpoint import path_of
from src.core.counts import count
from src.core.errors import Incomplete, UserError, writing
from src.core.files import printable, write_atomically
from src.core.inputs import find_images

if TYPE_CHECKING:
    from torch import Tensor

    from src.engine.load import LoadedClassifier

MAX_SHOWN = 64  # images in the picture


class Predictions(NamedTuple):
    """The predictions for N images.

    Attributes:
        names: the printable name of each file.
        probabilities: (N, num_classes), rows sum to 1.
        shown: the first images, for the picture: (n, C, H, W) in [0, 1].
        bad: one line for each file that could not be read.
        unlike: (N,), whether the image is unlike all training images; None if the run cannot tell.
    """

    names: list[str]
    probabilities: "Tensor"
    shown: "Tensor"
    bad: list[str]
    unlike: "Tensor | None" = None


def predict(cfg: DictConfig) -> Predictions:
    """Print, write and draw the predictions of the run in cfg.run for cfg.images.

    Raises Incomplete if some images cannot be read.
    """
    folder, out = Path(cfg.run).expanduser(), Path(cfg.out).expanduser()
    expect_classifier(folder)
    path_of(folder, cfg.which)
    paths = find_images([cfg.images] if isinstance(cfg.images, str) else list(cfg.images))
    originals = {path.resolve() for path in paths}
    for name in ("out", "picture"):
        if Path(cfg[name] or "").expanduser().resolve() in originals:
            raise UserError(f"{name}={cfg[name]} is one of the images: choose another name")

    from src.engine.load import load_classifier

    trained = load_classifier(folder, cfg.which)
    predictions = classify(trained, paths, cfg.batch_size)
    with writing(f"out={out}"):
        write_atomically(out, lambda path: write_csv(predictions, trained.class_names, path))
    shown = count(len(predictions.names), "image")
    written = [f"{out}: {shown}, {count(len(trained.class_names), 'class')}"]
    if cfg.picture is not None:
        written.append(draw(predictions, trained.class_names, Path(cfg.picture).expanduser()))
    print("\n".join([table(predictions, trained.class_names, cfg.top), *written]))
    if predictions.bad:
        raise Incomplete("\n".join(predictions.bad))
    return predictions


def classify(trained: "LoadedClassifier", paths: list[Path], batch_size: int) -> Predictions:
    """Decode `paths`, one thread per core, and classify them in batches.

    Raises UserError if none can be read.
    """
    import torch

    from src.core.pixels import to_float

    def read(path: Path) -> "Tensor | UserError":
        try:
            return trained.read(path)
        except UserError as error:
            return error

    names: list[str] = []
    bad: list[str] = []
    probabilities: list[Tensor] = []
    unlike: list[Tensor] = []
    shown: list[Tensor] = []
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor() as pool,
        tqdm(total=len(paths), unit="image", disable=None, leave=False) as bar,
    ):
        warnings.filterwarnings("ignore", module="PIL")  # about files that it reads anyway
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            pixels = dict(zip(batch, pool.map(read, batch), strict=True))
            bad += [str(error) for error in pixels.values() if isinstance(error, UserError)]
            good = {
                path: image for path, image in pixels.items() if not isinstance(image, UserError)
            }
            bar.update(len(batch))
            if not good:
                continue
            images = to_float(torch.stack(list(good.values())))  # (B, C, H, W)
            predicted = trained.predict(images)
            probabilities.append(predicted.probabilities)
            unlike.append(predicted.unlike)
            room = MAX_SHOWN - len(names)
            names += map(printable, good)
            if room > 0:
                shown.append(images[:room])
    if not names:
        raise UserError(f"none of {count(len(paths), 'file')} can be read: {bad[0]}")
    known = None if trained.familiar is None else torch.cat(unlike)
    return Predictions(names, torch.cat(probabilities), torch.cat(shown), bad, known)


def table(predictions: Predictions, class_names: list[str], top: int) -> str:
    """Return one line per image: its file, and its `top` most likely classes with probabilities.

    An image that is unlike all training images is said to be so.
    """
    values, classes = predictions.probabilities.topk(min(top, len(class_names)))
    rows = [
        [name, *(f"{class_names[k]} {p:.1%}" for k, p in zip(labels, row, strict=True))]
        for name, labels, row in zip(
            predictions.names, classes.tolist(), values.tolist(), strict=True
        )
    ]
    if predictions.unlike is not None:
        for row, unlike in zip(rows, predictions.unlike.tolist(), strict=True):
            row.append("unlike all training images" if unlike else "")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def write_csv(predictions: Predictions, class_names: list[str], path: Path) -> None:
    """Write a header and one row per image: file, class, its probability, all probabilities.

    If the run knows which images are unlike its training images, a column says so: 1, else 0.
    """
    known = predictions.unlike is not None
    unlike = predictions.unlike.int().tolist() if predictions.unlike is not None else []
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        header = ["file", "class", "probability", *(["unlike"] if known else [])]
        writer.writerow([*header, *class_names])
        for i, row in enumerate(predictions.probabilities.tolist()):
            best = max(range(len(row)), key=row.__getitem__)
            shares = [f"{p:.6g}" for p in row]
            start = [predictions.names[i], class_names[best], shares[best]]
            writer.writerow([*start, *unlike[i : i + 1], *shares])


def draw(predictions: Predictions, class_names: list[str], path: Path) -> str:
    """Draw the first images with class, probability and file; return a line about the picture."""
    from src.viz.captions import draw_captioned
    from src.viz.grids import save_picture

    n = len(predictions.shown)
    values, classes = predictions.probabilities[:n].max(1)
    rows = zip(classes.tolist(), values.tolist(), predictions.names, strict=False)
    captions = [f"{class_names[k]}  {p:.1%}\n{Path(name).name}" for k, p, name in rows]
    with writing(f"picture={path}"):
        save_picture(draw_captioned(predictions.shown, captions), path)
    return (
        f"{path}: {count(n, 'image')}"
        if n == len(predictions.names)
        else f"{path}: the first {n} of {len(predictions.names)} images"
    )


if __name__ == "__main__":
    sys.exit(cli.command("predict", predict, __doc__ or ""))
