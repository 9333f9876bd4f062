"""Curves: as a line of characters, and as a picture with axes and a legend."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from src.core.files import write_atomically

BLOCKS = "▁▂▃▄▅▆▇█"
MAX_COLUMNS = 3  # plots side by side
LOG_FROM = 100  # ratio of the largest to the smallest value from which an axis is logarithmic


class Curve(NamedTuple):
    """A curve of N points.

    Attributes:
        x, y: N coordinates each; x is ascending.
        half: N half widths of the band around the curve; 0 for none.
    """

    x: list[float]
    y: list[float]
    half: list[float]


def sparkline(values: Sequence[float], low: float, high: float, width: int) -> str:
    """Return `values` as a line of at most `width` characters, each the mean of its part.

    Args:
        values: N numbers.
        low, high: the values of the lowest and of the highest block.
        width: number of characters; fewer if there are fewer values.
    """
    parts = min(width, len(values))
    text = ""
    for i in range(parts):
        part = values[i * len(values) // parts : (i + 1) * len(values) // parts]
        share = (sum(part) / len(part) - low) / (high - low) if high > low else 0.5
        text += BLOCKS[min(len(BLOCKS) - 1, max(0, math.floor(share * len(BLOCKS))))]
    return text


def save_curves(curves: Mapping[str, Sequence[Curve]], labels: Sequence[str], path: Path) -> None:
    """Write a picture with axes for each metric and a curve for each label.

    Args:
        curves: metric -> a curve per label; an empty one is left out.
        labels: the words of the legend.
        path: the picture; its extension gives the format.
    """
    import matplotlib

    matplotlib.use("Agg")  # draws without a display
    from matplotlib import pyplot

    columns = min(MAX_COLUMNS, max(1, len(curves)))
    rows = max(1, math.ceil(len(curves) / columns))
    legend = 0.25 * len(labels) + 0.2  # inches
    size = (5.0 * columns, 3.4 * rows + legend)
    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in list(axes.flat)[len(curves) :]:
        axis.set_axis_off()
    for (name, found), axis in zip(curves.items(), axes.flat, strict=False):
        for number, (curve, label) in enumerate(zip(found, labels, strict=True)):
            color = f"C{number % 10}"
            marker = "o" if len(curve.x) < 3 else ""
            axis.plot(curve.x, curve.y, color=color, label=label, marker=marker, linewidth=1.5)
            low = [y - half for y, half in zip(curve.y, curve.half, strict=True)]
            high = [y + half for y, half in zip(curve.y, curve.half, strict=True)]
            axis.fill_between(curve.x, low, high, color=color, alpha=0.2, linewidth=0)
        _scale(axis, [y for curve in found for y in curve.y])
        axis.set_title(name)
        axis.set_xlabel("batches")
        axis.grid(alpha=0.3)
    handles = axes.flat[0].get_legend_handles_labels()[0]
    figure.legend(handles, labels, loc="outside lower left", fontsize="small")
    form = path.suffix.removeprefix(".").lower()
    try:
        write_atomically(path, lambda to: figure.savefig(to, dpi=110, format=form))
    finally:
        pyplot.close(figure)


def _scale(axis: Any, values: Sequence[float]) -> None:
    """Let the curves, not their bands, decide the range; logarithmic if it spans two decades."""
    if not values:
        return
    low, high = min(values), max(values)
    if low > 0 and high / low > LOG_FROM:
        axis.set_yscale("log")
        axis.set_ylim(low / 1.2, high * 1.2)
    else:
        margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
        axis.set_ylim(low - margin, high + margin)
