"""Curves: as a line of characters, and as a picture with axes and a legend."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from src.core.files import write_atomically
from src.viz import axes, fonts
from src.viz.axes import MARGIN, SIZE, Title

BLOCKS = "▁▂▃▄▅▆▇█"
MAX_COLUMNS = 3  # plots side by side
PLOT = (470, 310)  # pixels of a plot with its words
LEFT, TOP, RIGHT, BOTTOM = 66, 26, 14, 46  # pixels of a plot around its axes
LINE = 18  # pixels from line to line of the legend
LOG_FROM = 100  # ratio of the largest to the smallest value from which an axis is logarithmic


class Curve(NamedTuple):
    """A curve of N points.

    Attributes:
        x, y: N coordinates each; x is ascending.
        half: N half widths of the band around the curve; 0 for none.
        seeds: thin lines to draw with it, N values each.
    """

    x: list[float]
    y: list[float]
    half: list[float]
    seeds: Sequence[list[float]] = ()


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


def save_curves(
    curves: Mapping[str, Sequence[Curve]],
    labels: Sequence[str],
    path: Path,
    title: str = "",
    columns: int = MAX_COLUMNS,
) -> None:
    """Write a picture with axes for each metric and a curve for each label.

    Args:
        curves: metric -> a curve per label; an empty one is left out.
        labels: the words of the legend; those without any curve are left out.
        path: the picture; its extension gives the format.
        title: text above the axes.
        columns: plots side by side, at most.
    """
    drawn = [k for k in range(len(labels)) if any(found[k].x for found in curves.values())]
    columns = min(columns, max(1, len(curves)))
    rows = max(1, math.ceil(len(curves) / columns))
    width = max(columns * PLOT[0], axes.width_of(labels) + 50)
    head = Title(title, width) if title else None
    top = (head.height if head else 0) + MARGIN
    legend = top + rows * PLOT[1]

    def paint(figure: Any) -> None:
        if head:
            head.draw(figure)
        for k, (name, found) in enumerate(curves.items()):
            row, column = divmod(k, columns)
            corner = (column * PLOT[0] + LEFT, top + row * PLOT[1] + TOP)
            size = (PLOT[0] - LEFT - RIGHT, PLOT[1] - TOP - BOTTOM)
            _draw_plot(axes.place(figure, *corner, *size), name, found)
        words = axes.place(figure, MARGIN, legend, width - 2 * MARGIN, len(drawn) * LINE or 1)
        words.set(xlim=(0, width - 2 * MARGIN), ylim=(len(drawn) or 1, 0))
        words.set_axis_off()
        for row, number in enumerate(drawn):
            words.plot([4, 28], [row + 0.5] * 2, color=_color(number), linewidth=2)
            words.text(36, row + 0.5, fonts.drawable(labels[number]), va="center")

    height = legend + len(drawn) * LINE + MARGIN
    form = path.suffix.removeprefix(".").lower()
    content = axes.draw_file(width, height, [title, *labels, *curves], paint, form)
    write_atomically(path, lambda to: to.write_bytes(content))


def _draw_plot(axis: Any, name: str, curves: Sequence[Curve]) -> None:
    for number, curve in enumerate(curves):
        color, marker = _color(number), "o" if len(curve.x) < 3 else ""
        axis.plot(curve.x, curve.y, color=color, marker=marker, linewidth=1.5)
        for values in curve.seeds:
            axis.plot(curve.x, values, color=color, linewidth=0.7, alpha=0.6)
        low = [y - half for y, half in zip(curve.y, curve.half, strict=True)]
        high = [y + half for y, half in zip(curve.y, curve.half, strict=True)]
        axis.fill_between(curve.x, low, high, color=color, alpha=0.2, linewidth=0)
    _scale(axis, [y for curve in curves for line in (curve.y, *curve.seeds) for y in line])
    axis.set_title(name, loc="left", fontsize=(SIZE + 1) * 72 / axes.DPI)
    axis.set_xlabel("batches")
    axis.grid(alpha=0.3)


def _color(number: int) -> str:
    return f"C{number % 10}"


def _scale(axis: Any, values: Sequence[float]) -> None:
    """Let the curves, not their bands, decide the range; logarithmic if it spans two decades."""
    if not values:
        return
    low, high = min(values), max(values)
    if low > 0 and high / low > LOG_FROM:
        axes.use_log_scale(axis, "y")
        axis.set_ylim(low / 1.2, high * 1.2)
    else:
        margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
        axis.set_ylim(low - margin, high + margin)
