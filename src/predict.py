"""Classify your own images with a finished run.

python -m src.predict run=DIR images=photo.jpg              one image
python -m src.predict run=DIR images=PHOTOS top=5           a folder, five classes per image
python -m src.predict run=DIR images='PHOTOS/**/*.jpg'      a glob, in quotes because of the shell
python -m src.predict run=DIR images='[a.png,PHOTOS]' out=predictions.csv picture=null

Reads any format, size and mode that Pillow reads, and HEIC if pillow-heif is installed. Images are
rotated by EXIF, blended over the run's background, converted to the run's channels, scaled to cover
its size and center cropped. They are not inverted: a net trained on white digits needs white
digits. In folders, only files with the ending of an image count, and hidden files do not; stderr
says how many are left out. Files that are named or matched by a glob are always tried. Unreadable
ones are named on stderr, and the exit code is then 1.
"""

import csv
import glob
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from omegaconf import DictConfig
from tqdm import tqdm

from src.config import cli
from src.core import runs
from src.core.errors import Incomplete, UserError, writing
from src.core.files import count_line, images_below, printable, summary, write_atomically

if TYPE_CHECKING:
    from torch import Tensor

    from src.engine.load import LoadedClassifier

MOST_SHOWN = 64  # images in the picture


class Answers(NamedTuple):
    """What was said of N images.

    Attributes:
        names: their files, as they can be printed.
        probabilities: (N, num_classes), rows sum to 1.
        shown: the first of them for the picture, (n, C, H, W) in [0, 1].
        bad: a line for each file that could not be read.
    """

    names: list[str]
    probabilities: "Tensor"
    shown: "Tensor"
    bad: list[str]


def predict(cfg: DictConfig) -> Answers:
    """Print, write and draw the predictions of the run in cfg.run for cfg.images.

    Raises Incomplete if some images cannot be read.
    """
    folder, out = Path(cfg.run).expanduser(), Path(cfg.out).expanduser()
    runs.expect_classifier(folder)
    paths = found([cfg.images] if isinstance(cfg.images, str) else list(cfg.images))

    from src.engine.load import load_classifier

    trained = load_classifier(folder)
    answers = answers_for(trained, paths, cfg.batch_size)
    with writing(f"out={out}"):
        write_atomically(out, lambda path: write_csv(answers, trained.class_names, path))
    written = [f"{out}: {len(answers.names)} images, {len(trained.class_names)} classes"]
    if cfg.picture is not None:
        written.append(draw(answers, trained.class_names, Path(cfg.picture).expanduser()))
    print("\n".join([table(answers, trained.class_names, cfg.top), *written]))
    if answers.bad:
        raise Incomplete("\n".join(answers.bad))
    return answers


def found(given: list[str]) -> list[Path]:
    """Return the files that paths, folders and globs name, each once, in order.

    Print to stderr which files of folders are left out. Raises UserError for a name that matches
    nothing.
    """
    files: dict[Path, Path] = {}  # by where they lie
    for word in given:
        path = Path(os.path.expanduser(word))  # noqa: PTH111 (Path's own raises where there is no such user)
        matches = [path] if path.exists() else _globbed(path) or [path]
        named = [match for match in matches if match.is_file()]
        scans = {match: images_below(match) for match in matches if match.is_dir()}
        below = [file for scan in scans.values() for file in scan.images]
        if not named + below:
            left_out = "; ".join(summary(scan.left_out) for scan in scans.values())
            why = (
                f"a folder without images{f' ({left_out})' if left_out else ''}"
                if scans
                else "no such file or folder, and a glob without a match"
            )
            raise UserError(f"images={word}: {why}")
        for folder, scan in scans.items():
            if scan.left_out:
                print(f"{printable(folder)}: {count_line(scan.left_out)}", file=sys.stderr)
        for file in named + below:
            files.setdefault(file.resolve(), file)
    return list(files.values())


def _globbed(path: Path) -> list[Path]:
    """Return what the glob `path` matches, sorted.

    The folders at its start that exist are taken literally, whatever characters are in their names.
    """
    head = next(parent for parent in path.parents if parent.is_dir())
    pattern = str(Path(glob.escape(str(head))) / path.relative_to(head))
    return [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 (Path's own takes hidden files too)


def answers_for(trained: "LoadedClassifier", paths: list[Path], batch_size: int) -> Answers:
    """Decode `paths`, one thread per core, and classify them in batches.

    Raises UserError if none can be read.
    """
    import torch

    from src.data.decode import decode
    from src.data.transforms.pixels import to_float

    def read(path: Path) -> "Tensor | UserError":
        try:
            return decode(path, trained.size, trained.channels, trained.background)
        except UserError as error:
            return error

    names: list[str] = []
    bad: list[str] = []
    probabilities: list[Tensor] = []
    shown: list[Tensor] = []
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor() as pool,
        tqdm(total=len(paths), unit="image", disable=None, leave=False) as bar,
    ):
        warnings.filterwarnings("ignore", module="PIL")  # of files that it reads nevertheless
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
            with torch.no_grad():
                probabilities.append(trained.net(images).double().softmax(1))
            room = MOST_SHOWN - len(names)
            names += map(printable, good)
            if room > 0:
                shown.append(images[:room])
    if not names:
        raise UserError(f"none of {len(paths)} files can be read: {bad[0]}")
    return Answers(names, torch.cat(probabilities), torch.cat(shown), bad)


def table(answers: Answers, class_names: list[str], top: int) -> str:
    """A line an image: its file, then its `top` likeliest classes with their probabilities."""
    values, classes = answers.probabilities.topk(min(top, len(class_names)))
    rows = [
        [name, *(f"{class_names[k]} {p:.1%}" for k, p in zip(labels, row, strict=True))]
        for name, labels, row in zip(answers.names, classes.tolist(), values.tolist(), strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def write_csv(answers: Answers, class_names: list[str], path: Path) -> None:
    """Return a header and one row per image: file, class, its probability, all probabilities."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "class", "probability", *class_names])
        for name, row in zip(answers.names, answers.probabilities.tolist(), strict=True):
            best = max(range(len(row)), key=row.__getitem__)
            writer.writerow([name, class_names[best], *(f"{p:.6g}" for p in (row[best], *row))])


def draw(answers: Answers, class_names: list[str], path: Path) -> str:
    """Draw the first images with class, probability and file; return a line that says so."""
    from src.viz import charts, grids

    n = len(answers.shown)
    values, classes = answers.probabilities[:n].max(1)
    answered = zip(classes.tolist(), values.tolist(), answers.names, strict=False)
    captions = [f"{class_names[k]}  {p:.1%}\n{Path(name).name}" for k, p, name in answered]
    with writing(f"picture={path}"):
        grids.save_png(charts.draw_captioned(answers.shown, captions), path)
    return (
        f"{path}: {n} images"
        if n == len(answers.names)
        else f"{path}: the first {n} of {len(answers.names)} images"
    )


if __name__ == "__main__":
    sys.exit(cli.command("predict", predict, __doc__ or ""))
