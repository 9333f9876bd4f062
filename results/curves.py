"""Draw the curves of the result pages from results/curves/*.csv.

python -m results.curves                                  draw all, as docs/images/curves_NAME.png
python -m results.curves gan val/fid_own dcgan_mnist=RUN  add a curve from a run first

A CSV file has the columns curve, x and value. Its axes are in CURVES.
"""

import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws without a display
from matplotlib import pyplot

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "results" / "curves"
IMAGES = ROOT / "docs" / "images"
FIELDS = ["curve", "x", "value"]
Curve = list[tuple[float, float]]  # (x, value)


@dataclass(frozen=True)
class Axes:
    """The axes of a picture of curves.

    Attributes:
        x, y: labels of the axes.
        log: whether the y axis is logarithmic.
        top: largest value shown; None: show all.
    """

    x: str
    y: str
    log: bool = False
    top: float | None = None


CURVES = {
    "draw": Axes("epochs", "bound on validation, nats per image", top=130),
    "vgg": Axes("batches", "training loss"),
    "resnet20": Axes("epochs", "training loss"),
    "cifar10_fast": Axes("epochs", "training loss"),
    "gan": Axes("batches", "FID on validation, own features", log=True),
    "cyclegan": Axes("batches", "mean absolute difference, training"),
}


def read(name: str) -> dict[str, Curve]:
    """Return the curves of results/curves/NAME.csv, by label."""
    curves: dict[str, Curve] = {}
    with (FOLDER / f"{name}.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            curves.setdefault(row["curve"], []).append((float(row["x"]), float(row["value"])))
    return curves


def collect(name: str, metric: str, label: str, run: Path) -> None:
    """Write the values of `metric` in a finished run to results/curves/NAME.csv, as `label`."""
    path = FOLDER / f"{name}.csv"
    curves = read(name) if path.exists() else {}
    with (run / "metrics.csv").open(newline="") as file:
        every = list(csv.DictReader(file))
    rows = [row for row in every if row.get(metric)]
    if not rows:
        sys.exit(f"error: {run / 'metrics.csv'} has no value of {metric}")
    unit = 1.0  # batches
    if CURVES[name].x == "epochs":
        settings = json.loads((run / "run.json").read_text())["settings"]
        unit = float(every[-1]["batches"]) / settings["trainer"]["max_epochs"]
    curves[label] = [(float(row["batches"]) / unit, float(row[metric])) for row in rows]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        for curve, points in curves.items():
            writer.writerows((curve, f"{x:g}", f"{value:.4g}") for x, value in points)


def draw(name: str) -> Path:
    """Draw results/curves/NAME.csv; return the picture's path."""
    axes = CURVES[name]
    figure, plot = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for label, points in read(name).items():
        plot.plot(*zip(*points, strict=True), label=label, marker="o" if len(points) < 15 else None)
    plot.set(xlabel=axes.x, ylabel=axes.y, yscale="log" if axes.log else "linear")
    plot.set_ylim(top=axes.top)
    plot.grid(alpha=0.3)
    plot.legend(frameon=False)
    path = IMAGES / f"curves_{name}.png"
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def main() -> None:
    if len(sys.argv) > 1:
        name, metric, *runs = sys.argv[1:]
        for run in runs:
            label, _, folder = run.partition("=")
            collect(name, metric, label, Path(folder))
    for name in CURVES:
        print(draw(name))


if __name__ == "__main__":
    main()
