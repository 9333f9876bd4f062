"""Measure images per second and memory as a setting grows; write a CSV file, a table and plots.

  python -m src.bench.scaling                        all axes, on made-up images
  python -m src.bench.scaling axes=[batch_size,num_steps] mnist=DATA cifar10=IMAGES

The axes:
  batch_size   LeNet, images in a batch
  image_size   ResNet-20, side of the images in pixels
  num_steps    DRAW, steps T of the recurrent network
  images       LeNet, images that are kept in memory
  streamed     LeNet, images that two workers decode from files as they are needed

Each point trains in a new process, without the pictures of callbacks=default. A point that fails,
for example because memory is full, is named and left out. The memory is that of the GPU if there is
one, else that of the process and its workers.
"""

import multiprocessing
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from src.bench.__main__ import our_rate, training_only
from src.bench.memory import PeakMemory
from src.bench.tables import Row, chosen, rows_of, save_csv, save_table, shown
from src.config import cli
from src.config.checks import check
from src.config.compose import compose
from src.config.overrides import quoted, setting
from src.core.errors import Incomplete, UserError, first_line, writing

HEADER = ("axis", "value", "images/s", "lowest", "highest", "peak memory, MiB", "lowest", "highest")


class Point(NamedTuple):
    """A measurement.

    Attributes:
        images_per_second: speed of training.
        peak_memory_mb: in MiB.
    """

    images_per_second: float
    peak_memory_mb: float


Measured = dict[str, dict[int, list[Point]]]  # axis -> value -> a point of each round


@dataclass
class Axis:
    """A setting that grows.

    Attributes:
        title: of the plot: what is trained, on what.
        label: what the values are, with their unit.
        setting: its dotted name; None: the number of images in the folder.
        values: at which speed and memory are measured.
        recipe: overrides that choose model and data.
        source: `mnist` or `cifar10`, the images that it trains on.
        batches: value -> number of timed batches, after a quarter as many to warm up.
        images: number of images in the folder, unless that is what grows.
    """

    title: str
    label: str
    setting: str | None
    values: tuple[int, ...]
    recipe: tuple[str, ...]
    source: str
    batches: Callable[[int], int]
    images: int = 2000


FOLDER = ("data=folder", "data.val_size=0", "data.test_size=0", "data.cache=null")
LENET = ("experiment=lenet_cifar10", *FOLDER)
COUNTS = (1_000, 3_000, 10_000, 30_000, 100_000)
AXES = {
    "batch_size": Axis(
        "LeNet, 10,000 color images of 32 x 32 pixels in memory",
        "images in a batch",
        "data.batch_size",
        (16, 32, 64, 128, 256, 512, 1024),
        (*LENET, "data.in_memory=true"),
        "cifar10",
        lambda size: max(40, 30_000 // size),
        images=10_000,
    ),
    "image_size": Axis(
        "ResNet-20, batches of 32 color images in memory",
        "height and width of an image, pixels",
        "data.size",
        (16, 32, 64, 128),
        ("model=resnet20", *FOLDER, "data.in_memory=true", "data.batch_size=32"),
        "cifar10",
        lambda size: max(4, 64_000 // size**2),
    ),
    "num_steps": Axis(
        "DRAW, batches of 64 gray images of 28 x 28 pixels",
        "steps T",
        "model.net.num_steps",
        (4, 8, 16, 32, 64),
        ("experiment=draw_tutorial", "data=mnist", "model.compile=false"),
        "mnist",
        lambda steps: max(4, 400 // steps),
    ),
    "images": Axis(
        "LeNet, batches of 64 color images of 32 x 32 pixels, all in memory",
        "images in memory",
        None,
        COUNTS,
        (*LENET, "data.in_memory=true"),
        "cifar10",
        lambda _: 400,
    ),
    "streamed": Axis(
        "LeNet, batches of 64 color images of 32 x 32 pixels, decoded by 2 workers",
        "images in the folder",
        None,
        COUNTS,
        (*LENET, "data.in_memory=false", "data.workers=2"),
        "cifar10",
        lambda _: 400,
    ),
}


def bench_scaling(cfg: DictConfig) -> Measured:
    """Measure the axes of `cfg`; write the results after each round, and return them.

    Raises:
        Incomplete: some points failed.
    """
    names = chosen("axes", cfg.axes, AXES)
    out, machine = Path(cfg.out).expanduser(), cfg.machine or platform.node()
    measured: Measured = {}
    rows: list[Row] = []
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        sources = Sources(cfg, Path(scratch))
        for name in names:
            axis, measured[name] = AXES[name], {}
            for number in range(1, cfg.rounds + 1):
                for value in axis.values:
                    overrides = overrides_of(axis, value, sources.folder(axis, value))
                    point = try_point(f"{name}={value}, round {number}", overrides)
                    if point is None:
                        failed += 1
                        continue
                    measured[name].setdefault(value, []).append(point)
                    found = [(number, metric, x) for metric, x in point._asdict().items()]
                    command = shown(overrides, Path(scratch))
                    rows += rows_of(f"{name}={value}", found, machine, command)
                save(measured, name, rows, out)
    print(f"results in {out}: scaling.csv, scaling.md, scaling_AXIS.png", flush=True)
    if failed:
        total = cfg.rounds * sum(len(AXES[name].values) for name in names)
        raise Incomplete(f"{failed} of {total} points failed; the lines above say why")
    return measured


def try_point(what: str, overrides: list[str]) -> Point | None:
    """Return the measurement of a point, or None if it failed; print which."""
    try:
        point = in_new_process(overrides)
    except Exception as error:  # any library may fail when memory is full
        print(f"{what} failed and is left out: {reason(error)}", flush=True)
        return None
    print(
        f"{what}: {point.images_per_second:,.0f} images/s, {point.peak_memory_mb:,.0f} MiB",
        flush=True,
    )
    return point


class Sources:
    """Folders of images to train on, made when they are needed.

    Args:
        cfg: names folders with MNIST and CIFAR-10, or null for made-up images.
        scratch: a temporary folder.
    """

    def __init__(self, cfg: DictConfig, scratch: Path) -> None:
        self.given = {"mnist": cfg.mnist, "cifar10": cfg.cifar10}
        self.scratch = scratch
        self.folder_of = cache(self._folder_of)

    def folder(self, axis: Axis, value: int) -> Path:
        """Return the folder to train on at `value`."""
        if axis.source == "mnist":
            return self.folder_of("mnist", 0)
        return self.folder_of("cifar10", value if axis.setting is None else axis.images)

    def _folder_of(self, source: str, n: int) -> Path:
        """Return the folder of `source`; if n > 0, one with as many of its images."""
        from src.bench.made_up import linked_images, made_up_images, made_up_mnist

        if n:
            return linked_images(self.folder_of(source, 0), n, self.scratch / f"{n}_images")
        if self.given[source]:
            return Path(self.given[source]).expanduser()
        make = made_up_mnist if source == "mnist" else made_up_images
        return make(self.scratch / source)


def overrides_of(axis: Axis, value: int, folder: Path) -> list[str]:
    """Return the command line of src.bench for a point whose images are in `folder`."""
    batches = axis.batches(value)
    return [
        *axis.recipe,
        *([f"{axis.setting}={value}"] if axis.setting else []),
        setting("data.root", folder),
        "callbacks=none",
        f"bench.batches={batches}",
        f"bench.warmup={-(-batches // 4)}",
    ]


def in_new_process(overrides: list[str]) -> Point:
    """Return `measure(overrides)`, called in a process that ends with it.

    Raises:
        Exception: what `measure` raises; BrokenProcessPool: the process was killed.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, overrides).result()


def measure(overrides: list[str]) -> Point:
    """Train for the timed batches of src.bench; return the speed and the peak memory.

    The memory includes that of reading the images, see `src.bench.memory`. Call it in a new
    process.
    """
    from src.engine import build

    # else the workers would start as this process did, and not as those of src.train
    multiprocessing.set_start_method(None, force=True)
    cfg = compose("bench", [quoted(override) for override in overrides])
    check(cfg, "bench")
    data = build.datamodule(cfg)
    cfg = training_only(cfg, data)
    with PeakMemory() as memory:
        rate = our_rate(cfg, data, cfg.trainer.precision)
    return Point(rate, memory.peak_mb())


def reason(error: Exception) -> str:
    """Return why a point failed, in one line."""
    if isinstance(error, BrokenProcessPool):
        return "its process was killed, as the system does when memory is full"
    return str(error) if isinstance(error, UserError) else first_line(error)


def save(measured: Measured, name: str, rows: list[Row], folder: Path) -> None:
    """Write scaling.csv and scaling.md of all axes, and scaling_NAME.png."""
    from src.viz.scaling import save_scaling

    axis, points = AXES[name], dict(sorted(measured[name].items()))
    with writing(f"out={folder}"):
        save_csv(rows, folder / "scaling.csv")
        save_table(HEADER, table(measured), folder / "scaling.md")
        if points:
            pairs = [zip(*found, strict=True) for found in points.values()]
            rates, memory = zip(*pairs, strict=True)
            panels = {"images/s": rates, "peak memory, MiB": memory}
            picture = folder / f"scaling_{name}.png"
            save_scaling(list(points), panels, axis.label, axis.title, picture)


def table(measured: Measured) -> list[list[str]]:
    """Return the lines of the table below HEADER: medians and ranges over the rounds."""
    lines = []
    for name, points in measured.items():
        for value, found in sorted(points.items()):
            line = [f"`{name}`", f"{value:,}"]
            for numbers in zip(*found, strict=True):
                middle = statistics.median(numbers)
                line += [f"{number:,.0f}" for number in (middle, min(numbers), max(numbers))]
            lines.append(line)
    return lines


if __name__ == "__main__":
    sys.exit(cli.command("bench_scaling", bench_scaling, __doc__ or ""))
