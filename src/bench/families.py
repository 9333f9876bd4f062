"""Run src.bench for every family; write a CSV file, a table and a plot.

  python -m src.bench.families                       all families, on made-up images
  python -m src.bench.families families=[fc,gan] mnist=DATA
  python -m src.bench.families loops=[]              only start-up and memory

The loops of a family alternate within each round, so that a change of the machine's load affects
all of them. Each CSV line holds one value, as in results/*.csv.
"""

import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from src.bench.__main__ import COMPARED, LOOPS, Speeds, bench
from src.bench.tables import Row, chosen, rows_of, save_csv, save_table, shown
from src.config import cli
from src.config.checks import check
from src.config.compose import compose
from src.config.overrides import quoted, setting
from src.core.errors import writing


@dataclass
class Recipe:
    """How a family is measured.

    Attributes:
        settings: overrides that choose its model and recipe.
        source: `mnist` or `cifar10`, the images that it trains on.
        batches: timed in each round.
        warmup: batches before them. Pictures are more frequent at the start: after 1, 2, 4, ...
            batches until their interval, 100 or 500 batches, has passed once.
    """

    settings: tuple[str, ...]
    source: str
    batches: int
    warmup: int


FAMILIES = {
    "fc": Recipe(("experiment=fc_mnist",), "mnist", 1500, 520),
    "cnn": Recipe(("experiment=cnn_mnist",), "mnist", 1000, 520),
    "lenet": Recipe(("experiment=lenet_cifar10",), "cifar10", 1000, 520),
    "vgg": Recipe(("experiment=vgg_cifar10",), "cifar10", 25, 5),
    "gan": Recipe(("experiment=gan_mnist",), "mnist", 500, 520),
    "dcgan": Recipe(("experiment=dcgan_mnist",), "mnist", 100, 66),
    "draw": Recipe(("experiment=draw_tutorial", "data=mnist"), "mnist", 50, 66),
    "draw_noattention": Recipe(
        ("experiment=draw_tutorial_noattention", "data=mnist"), "mnist", 50, 66
    ),
    "cyclegan": Recipe(("experiment=cyclegan_winter", "data=winter"), "cifar10", 50, 10),
}


HEADER = (
    *("family", "plain", "lean", "empty Trainer", "ours", "ours in float32"),
    *("ours / plain", "ours / lean", "ours / empty Trainer"),
    *("seconds to first batch", "peak memory, MB"),
)


def bench_families(cfg: DictConfig) -> dict[str, Speeds]:
    """Measure the families of `cfg`; write the results after each, and return them."""
    from src.bench.made_up import made_up_images, made_up_mnist

    names = chosen("families", cfg.families, FAMILIES)
    measured: dict[str, Speeds] = {}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        folders = {
            "mnist": cfg.mnist or made_up_mnist(Path(scratch) / "mnist"),
            "cifar10": cfg.cifar10 or made_up_images(Path(scratch) / "cifar10"),
        }
        for name in names:
            print(f"\n{name}", flush=True)
            overrides = overrides_of(FAMILIES[name], str(folders[FAMILIES[name].source]), cfg)
            given = [quoted(override) for override in overrides]
            bench_cfg = compose("bench", given)
            check(bench_cfg, "bench")
            measured[name] = bench(bench_cfg, overrides)
            rows += rows_of(
                name,
                values_of(measured[name]),
                cfg.machine or platform.node(),
                shown(overrides, Path(scratch)),
            )
            save(measured, rows, Path(cfg.out).expanduser())
    return measured


def overrides_of(family: Recipe, root: str, cfg: DictConfig) -> list[str]:
    """Return the command line of src.bench for a family whose images are in `root`."""
    is_files = family.source == "cifar10" and not any("data=" in o for o in family.settings)
    return [
        *family.settings,
        *(["data=folder"] if is_files else []),
        setting("data.root", Path(root)),
        f"bench.batches={family.batches}",
        f"bench.warmup={family.warmup}",
        f"bench.rounds={cfg.rounds}",
        f"bench.starts={cfg.starts}",
        *([] if cfg.loops is None else [f"bench.loops=[{','.join(cfg.loops)}]"]),
    ]


def values_of(speeds: Speeds) -> list[tuple[int, str, float]]:
    """Return the values of a family for the CSV file: (round, metric, value)."""
    found: list[tuple[int, str, float]] = []
    for loop, rates in speeds.rates.items():
        found += [(k, f"{loop}_images_per_second", rate) for k, rate in enumerate(rates, 1)]
    for loop in speeds.compared():
        found += [(k, f"ratio_{loop}", ratio) for k, ratio in enumerate(speeds.ratios(loop), 1)]
    for k, start in enumerate(speeds.starts, 1):
        found += [(k, "start_seconds", start.seconds), (k, "peak_memory_mb", start.peak_memory_mb)]
    return found


def save(measured: dict[str, Speeds], rows: Sequence[Row], folder: Path) -> None:
    """Write speed.csv, speed.md and speed.png."""
    from src.viz.charts import draw_bars
    from src.viz.grids import save_png

    with writing(f"out={folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        save_csv(rows, folder / "speed.csv")
        save_table(HEADER, table(measured), folder / "speed.md")
        bars = {
            f"{name}, {loop}": speeds.ratios(loop)
            for name, speeds in measured.items()
            for loop in speeds.compared()
            if loop != "plain"
        }
        if bars:
            picture = draw_bars(
                [statistics.median(ratios) for ratios in bars.values()],
                "images per second of ours, divided by those of the lean loop or an empty Trainer",
                list(bars),
                [(min(ratios), max(ratios)) for ratios in bars.values()],
                form=".2f",
            )
            save_png(picture, folder / "speed.png")
    pictures = ", speed.png" if bars else ""
    print(f"results in {folder}: speed.csv, speed.md{pictures}", flush=True)


def table(measured: dict[str, Speeds]) -> list[list[str]]:
    """Return the lines of the table below HEADER: medians, with ranges of the ratios.

    A cell is empty if its value was not measured.
    """
    lines = []
    for name, speeds in measured.items():
        rates = {loop: f"{statistics.median(r):,.0f}" for loop, r in speeds.rates.items()}
        ratios = {
            loop: f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
            for loop in speeds.compared()
            for values in [speeds.ratios(loop)]
        }
        starts = speeds.starts
        lines.append(
            [
                f"`{name}`",
                *(rates.get(loop, "") for loop in LOOPS),
                *(ratios.get(loop, "") for loop in COMPARED),
                f"{statistics.median(start.seconds for start in starts):.1f}" if starts else "",
                f"{max(start.peak_memory_mb for start in starts):,.0f}" if starts else "",
            ]
        )
    return lines


if __name__ == "__main__":
    sys.exit(cli.command("bench_families", bench_families, __doc__ or ""))
