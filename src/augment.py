"""Augment a data set into a new folder that trains as data=folder, or preview each augmentation.

python -m src.augment data=folder data.root=IN augment=strong factor=3 seed=0 out=OUT
python -m src.augment data=mnist augment=warp factor=2 out=OUT        any data set of src.train
python -m src.augment data=folder data.root=IN augment=model augment.run=RUN out=OUT
                      by the model of a finished run: cyclegan (augment.to=a: from B to A),
                      style_transfer or cdcgan
python -m src.augment preview=photo.jpg out=sheet.png                 every augmentation and border

OUT/train holds each training image and factor - 1 images made from it, each at its own size
(augment.size for images that a model translates, the size of the run for those of a cdcgan).
OUT/val and OUT/test hold the other images unchanged. OUT/manifest.csv lists the source of each new
image, its seed, and the parameters of each transform. The same seed gives the same bytes.
"""

import csv
import itertools
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig
from tqdm import tqdm

from src.config import cli
from src.config.checks import check, compose, groups
from src.core.errors import UserError, writing
from src.core.files import printable
from src.core.types import PICTURES

if TYPE_CHECKING:
    from torch import Tensor

    from src.core.randomness import CounterRNG
    from src.data.image_data import ImageData
    from src.data.images import Images
    from src.data.transforms.augment import Augment

Made = tuple["Tensor", dict[str, Any]]  # (1, C, H, W) in [0, 1], and what the manifest says of it
# an image (1, C, H, W) in [0, 1], its label, its draws for each copy -> the copies
Maker = Callable[["Tensor", int, list["CounterRNG"]], Iterator[Made]]
COLUMNS = ("file", "source", "class", "seed", "copy", "transforms")  # of the manifest
SIDE = 96  # of the preview's images
SPLIT = (  # settings of data that decide which images are for training
    "name",
    "test_size",
    "val_size",
    "split_seed",
    "train_size",
    "train_per_class",
    "classes",
    "limit",
)
TRIES = 32  # draws of which the preview shows the most telling


def augment(cfg: DictConfig) -> Path:
    """Write the folder or the preview that `cfg` asks for; return cfg.out."""
    out = Path(cfg.out).expanduser()
    if cfg.preview is not None:
        return preview(Path(cfg.preview).expanduser(), out, cfg.seed, cfg.data.background)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"out={out} is there and not empty; name a new folder, nothing is overwritten"
        )
    if cfg.data.root and Path(cfg.data.root).expanduser().resolve() in out.resolve().parents:
        raise UserError(
            f"out={out} lies in data.root={cfg.data.root}, where it would be read as images of its own"
        )
    if changed := [name for name in ("permute", "binarize") if cfg.data[name]]:
        raise UserError(
            f"data.{changed[0]}=true is for training: the folder OUT holds images as a person sees them"
        )

    from src.engine import build

    data = build.datamodule(cfg)
    if runs := cfg.augment.get("run"):
        make = by_models([runs] if isinstance(runs, str) else list(runs), cfg.augment.to, data, cfg)
    elif data.augment is None:
        others = [
            choice for choice in groups()["augment"] if choice not in ("none", "mixup", "cutmix")
        ]
        raise UserError(f"augment=none makes nothing; there are {', '.join(others)}")
    else:
        make = by_transforms(data.augment)
    if data.augment is not None and data.augment.mixing:
        raise UserError(
            f"augment={next(iter(data.augment.mixing))} mixes labels, which a folder cannot hold; train with it instead"
        )
    if not data.labeled:
        raise UserError(
            f"data={cfg.data.name} has no labels, which the folders of OUT are named by"
        )
    with writing(f"out={out}"):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            made = _write(data, Path(folder) / "whole", make, cfg)
            (Path(folder) / "whole").replace(out)
    print(
        f"{out}: {len(data.train)} images to train on and {made} made of them; held out {len(data.val)} and {len(data.test)}"
    )
    return out


def by_transforms(augment: "Augment") -> Maker:
    """Return a maker of images by the transforms of conf/augment."""

    def make(image: "Tensor", label: int, copy_rngs: list["CounterRNG"]) -> Iterator[Made]:
        for draws in copy_rngs:
            values = augment.sample(draws, (image.shape[2], image.shape[3]))
            done = {
                name: {key: round(value.item(), 6) for key, value in one.items()}
                for name, one in values.items()
            }
            yield augment.apply(image, values, draws), done

    return make


def by_models(runs: list[str], to: str, data: "ImageData", cfg: DictConfig) -> Maker:
    """Return a maker of images by the models of finished runs, one run after another for the copies.

    A CycleGAN or a style transfer changes the image; a conditional GAN draws one of its class.

    Raises:
        UserError: a model can do neither, knows other classes, was trained on other images than
            `cfg` trains on (so on images that are held out here), or two copies would be equal.
    """
    from src.callbacks.protocols import CanSampleClasses, CanTranslate
    from src.engine.load import load_run

    models = {}
    for folder in runs:
        run_cfg, model, data_state = load_run(Path(folder).expanduser())
        by_image, channels = isinstance(model, CanTranslate), run_cfg.data.channels
        if not by_image and not (isinstance(model, CanSampleClasses) and model.num_classes):
            family = type(model).__name__
            able = "cyclegan, style_transfer and cdcgan do"
            raise UserError(
                f"augment.run={folder}: a {family} makes no image of an image, nor of a class; {able}"
            )
        if channels != data.channels:
            raise UserError(
                f"augment.run={folder} makes images of {channels} channels, the data have {data.channels}"
            )
        if not by_image and (names := data_state["class_names"]) != data.class_names:
            raise UserError(
                f"augment.run={folder} draws {', '.join(names)}; the data have {', '.join(data.class_names)}"
            )
        split = SPLIT + (("root",) if run_cfg.data.name == "folder" else ())
        if not by_image and (
            other := [
                key for key in split if _comparable(run_cfg.data, key) != _comparable(cfg.data, key)
            ]
        ):
            said = {key: run_cfg.data.get(key) for key in other}
            there = " ".join(
                f"data.{key}={'null' if value is None else value}" for key, value in said.items()
            )
            raise UserError(
                f"augment.run={folder} learned from other images than these, with {there}: say the same here"
            )
        models[folder] = model
    if cfg.factor > len(runs) + 1 and any(
        isinstance(model, CanTranslate) for model in models.values()
    ):
        raise UserError(
            f"factor={cfg.factor}: a cyclegan or style_transfer makes one image of each, so augment.run must name "
            f"{cfg.factor - 1} runs or more, not {len(runs)}"
        )

    def make(image: "Tensor", label: int, copy_rngs: list["CounterRNG"]) -> Iterator[Made]:
        import torch

        first = int(copy_rngs[0].fork("run").uniform() * len(runs))
        for copy, draws in enumerate(copy_rngs):
            folder = runs[(first + copy) % len(runs)]
            model = models[folder]
            if isinstance(model, CanTranslate):
                yield model.translate(image, to), {"run": folder, "to": to}
            else:
                noise = torch.Generator().manual_seed(int(draws.fork("noise").integer()))
                yield (
                    cast("CanSampleClasses", model).sample(1, noise, torch.tensor([label])),
                    {"run": folder},
                )

    return make


def _comparable(settings: DictConfig, key: str) -> Any:
    value = settings.get(key)
    return Path(value).expanduser().resolve() if key == "root" and value else value


def _write(data: "ImageData", folder: Path, make: Maker, cfg: DictConfig) -> int:
    """Write all of `data` and the images made from it to `folder`; return how many were made."""
    for name, part in (("train", data.train), ("val", data.val), ("test", data.test)):
        for class_name in data.class_names if len(part) else ():
            (folder / name / class_name).mkdir(parents=True)
        places = [folder / name / place for place in _places(part, data.class_names)]
        _each(partial(_keep, part, places), len(part), f"{name}, as it is")
    places = _places(data.train, data.class_names)
    made, workers = _made_places(places, cfg.factor), None
    if "run" in cfg.augment:
        workers = 1  # a model takes all cores for one image, and the memory that its maps need
    rows = _each(
        lambda i: _make(data, i, folder / "train", places[i], made[i], make, cfg),
        len(data.train),
        "made of train",
        workers,
    )
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *(row for copies in rows for row in copies)])
    return sum(map(len, rows))


def _each(
    action: Callable[[int], Any], n: int, words: str, workers: int | None = None
) -> list[Any]:
    with ThreadPoolExecutor(workers) as pool:
        return list(tqdm(pool.map(action, range(n)), words, n, disable=None, leave=False))


def _make(
    data: "ImageData",
    i: int,
    top: Path,
    place: Path,
    paths: list[Path],
    make: Maker,
    cfg: DictConfig,
) -> list[tuple[Any, ...]]:
    """Write the copies of training image i to `paths`; return their rows of the manifest.

    Copy k is what epoch k of a training would have seen.
    """
    import torch

    from src.core.randomness import CounterRNG
    from src.data.transforms.pixels import to_float

    image, label = (
        to_float(_pixels(data.train, i, cfg.augment.get("size"))).unsqueeze(0),
        int(data.train.labels[i]),
    )
    copies = range(1, len(paths) + 1)
    all_made = make(
        image, label, [CounterRNG(torch.tensor([i]), cfg.seed, "augment", copy) for copy in copies]
    )
    rows = []
    try:
        for copy, path, (made, done) in zip(copies, paths, all_made, strict=True):
            _save(made[0], top / path)
            rows.append(
                (
                    printable(top.name / path),
                    printable(top.name / place),
                    place.parts[0],
                    cfg.seed,
                    copy,
                    json.dumps(done),
                )
            )
    except ValueError as error:
        raise UserError(f"{place}: {error}") from error
    return rows


def _places(part: "Images", class_names: list[str]) -> list[Path]:
    """Return CLASS/NAME of each image, with its number before NAME if the class has it twice.

    If such a numbered name exists already, all names get their number.
    """
    paths = getattr(part, "paths", None) or [Path(f"{i:05d}.png") for i in range(len(part))]
    places = [
        Path(class_names[int(label)]) / path.name
        for label, path in zip(part.labels, paths, strict=True)
    ]
    numbered = [place.with_name(f"{i:05d}_{place.name}") for i, place in enumerate(places)]
    often = Counter(places)
    unique = [
        place if often[place] == 1 else other for place, other in zip(places, numbered, strict=True)
    ]
    return unique if len(set(unique)) == len(places) else numbered


def _made_places(places: list[Path], factor: int) -> list[list[Path]]:
    """Return CLASS/NAME.COPY.png of each copy, with a number in between if another image has it.

    That happens if IN is the OUT of an earlier call.
    """
    taken, found = set(places), []
    for place in places:
        found.append([_free(place, f".{copy}.png", taken) for copy in range(1, factor)])
        taken.update(found[-1])
    return found


def _free(place: Path, ending: str, taken: set[Path]) -> Path:
    names = (
        f"{place.name}{'' if number == 1 else f'.{number}'}{ending}"
        for number in itertools.count(1)
    )
    return next(path for name in names if (path := place.with_name(name)) not in taken)


def _keep(part: "Images", places: list[Path], i: int) -> None:
    """Write image i unchanged: a copy of its file if it has one."""
    if paths := getattr(part, "paths", None):
        shutil.copyfile(paths[i], places[i])
    else:
        from src.data.transforms.pixels import to_float

        _save(to_float(_pixels(part, i)), places[i])


def _pixels(part: "Images", i: int, size: int | None = None) -> "Tensor":
    """Return image i, (C, H, W) uint8; one in a file is scaled to `size`, None: its own."""
    import torch

    from src.data.decode import decode
    from src.data.sets.files import FileSet

    if isinstance(part, FileSet):
        side = None if size is None else (size, size)
        return decode(part.paths[i], side, part.channels, part.background)
    return part[torch.tensor([i])][0][0]


def _save(image: "Tensor", path: Path) -> None:
    from PIL import Image

    from src.data.transforms.pixels import to_uint8

    Image.fromarray(to_uint8(image).permute(1, 2, 0).squeeze(2).numpy()).save(path)


def preview(path: Path, out: Path, seed: int, background: Any = "white") -> Path:
    """Draw each choice of conf/augment on one image: geometric ones at every border."""
    if out.suffix.lower() not in PICTURES:
        raise UserError(f"out={out}: a picture's name ends in one of {', '.join(PICTURES)}")

    import torch

    from src.core.randomness import CounterRNG
    from src.data.decode import decode, parse_color
    from src.data.transforms.pixels import to_float
    from src.data.transforms.warp import BORDERS
    from src.engine import build
    from src.viz import charts, grids

    image = to_float(decode(path, (SIDE, SIDE), 3, parse_color(background)))
    images, captions = [image] * len(BORDERS), ["as it is", *[""] * (len(BORDERS) - 1)]
    draws, many = CounterRNG(torch.arange(TRIES), seed, "preview"), image.expand(TRIES, -1, -1, -1)
    for choice in groups()["augment"]:
        if choice == "model":
            continue  # it makes no sense without a run
        cfg = compose("augment", [f"augment={choice}", "out=none", "data.root=none"])
        check(cfg, "augment")
        if choice == "none" or (chosen := build.augmentation(cfg)) is None:
            continue
        given = (
            torch.where(torch.arange(TRIES).view(-1, 1, 1, 1) % 2 == 1, many.flip(2), many)
            if chosen.mixing
            else many
        )
        made, _ = chosen(given, torch.full((TRIES,), -1), draws, None)
        telling = (made - given).square().mean((1, 2, 3)).argsort(descending=True)[: len(BORDERS)]
        for number, border in zip(telling, BORDERS, strict=True):
            if chosen.geometric:
                chosen.border, number = border, telling[0]
                made, _ = chosen(given, torch.full((TRIES,), -1), draws, None)
            images.append(made[number])
            captions.append(f"{choice}\n{border}" if chosen.geometric else choice)
    with writing(f"out={out}"):
        grids.save_png(
            charts.draw_captioned(torch.stack(images), captions, columns=len(BORDERS), scale=1), out
        )
    print(f"{out}: {len(images)} images of {path}")
    return out


if __name__ == "__main__":
    sys.exit(cli.command("augment", augment, __doc__ or ""))
