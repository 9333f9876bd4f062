"""Charts: bars, confusion matrices, points in a plane.

Every picture is uint8 (H, W, 3).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from src.viz import axes, fonts
from src.viz.axes import MARGIN, SIZE, Title

LINE = 18  # pixels from line to line
MAX_NAME = 260  # pixels; longer names are shortened
BAR = "#4c72b0"
NUMBERED = 20  # numbers are drawn for up to this many classes or bars


def draw_bars(
    values: Sequence[float],
    title: str,
    names: Sequence[str] | None = None,
    intervals: Sequence[tuple[float, float]] | None = None,
    x_label: str = "",
    y_label: str = "",
    form: str = ".3g",
) -> np.ndarray:
    """Draw a bar for each value, from 0, with its number.

    Args:
        values: N numbers, at least one; one that is not finite has no bar.
        title: text above the bars.
        names: one for each bar, which is then horizontal, the first on top. None: the bars are
            upright and numbered from 1, without their values if there are more than 20.
        intervals: (low, high) around each value, drawn as a line with two ends.
        x_label, y_label: titles of the axes.
        form: how the numbers are written, such as `.1%`.
    """
    shown = np.array([value if math.isfinite(value) else 0.0 for value in values])
    ends = np.array(intervals if intervals is not None else np.stack([shown, shown], 1))  # (N, 2)
    labels, limit = [format(value, form) for value in values], max(shown.max(), ends.max(), 1e-12)
    style: dict[str, Any] = {"color": BAR}
    if intervals is not None:
        style |= {"ecolor": "0.3", "capsize": 3}
        style["xerr" if names is not None else "yerr"] = np.abs(ends - shown[:, None]).T
    short = [_short(name) for name in names or ()]
    left = axes.width_of(short) + 20 if short else 60
    width, height = (420, len(values) * LINE) if short else (560, 180)
    right = axes.width_of(labels) + 2 * MARGIN if short else 20
    if y_label and short:
        left += LINE
    head = Title(title, left + width + right)
    top = head.height + MARGIN

    def paint(figure: Any) -> None:
        head.draw(figure)
        axis = axes.place(figure, left, top, width, height)
        axis.set(xlabel=x_label, ylabel=y_label)
        if names is None:
            bars = axis.bar(range(1, len(values) + 1), shown, **style)
            axis.set_ylim(0, 1.12 * limit)
            axis.xaxis.get_major_locator().set_params(integer=True)
            if len(values) <= NUMBERED:
                axis.bar_label(bars, labels, padding=1)
            return
        axis.barh(range(len(values)), shown, **style)
        axis.set(xlim=(0, 1.02 * limit), ylim=(len(values) - 0.4, -0.6))
        axis.set_yticks(range(len(values)), short)
        for row, label in enumerate(labels):
            axis.annotate(
                label,
                (1, row),
                (MARGIN, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
            )

    bottom = 34 + (LINE if x_label else 0)
    return axes.draw(left + width + right, top + height + bottom, [title, *short], paint)


def draw_confusion(counts: Tensor, names: Sequence[str], title: str) -> np.ndarray:
    """Draw a confusion matrix: a row for each true class, a column for each predicted class.

    The color is the share of the row. Up to 20 classes have their counts, with the percentage of
    the row below, up to 100 their names.

    Args:
        counts: (K, K), by true and predicted class.
        names: K class names.
        title: text above the matrix.
    """
    n = len(names)
    cell = 44 if n <= NUMBERED else max(14, 700 // n) if n <= 100 else max(1, 1400 // n)
    short = [_short(name) for name in names] if cell >= 14 else []
    margin = axes.width_of(short) + 2 * LINE + 2 * MARGIN
    side, bar = n * cell, 90  # width of the color bar with its labels
    width = max(margin + side + bar, 400)
    head = Title(title, width)
    top = head.height + margin
    shares = (counts.double() / counts.sum(1, keepdim=True).clamp_min(1)).numpy()

    def paint(figure: Any) -> None:
        from matplotlib.colors import PowerNorm

        head.draw(figure)
        axis = axes.place(figure, margin, top, side, side)
        norm = PowerNorm(0.5, 0, 1)  # the square root makes rare mistakes visible
        image = axis.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
        axis.xaxis.set(label_position="top", ticks_position="top")
        axis.set(xlabel="predicted class", ylabel="true class")
        axis.spines[:].set_visible(True)
        ticks = range(len(short))
        axis.set_xticks(ticks, short, rotation=0 if _fits(short, cell) else 90)
        axis.set_yticks(ticks, short)
        if n <= NUMBERED:
            _write_counts(axis, counts, shares)
        side_axis = axes.place(figure, margin + side + 16, top, 12, min(side, 300))
        figure.colorbar(image, cax=side_axis, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
        side_axis.set_ylabel("share of the true class")

    return axes.draw(width, top + side + 2 * MARGIN, [title, *short], paint)


def _write_counts(axis: Any, counts: Tensor, shares: np.ndarray) -> None:
    """Write the counts that are not 0 into the cells, with their percentages of the row."""
    for i, j in counts.nonzero().tolist():
        ink = "white" if shares[i, j] > 0.3 else "black"
        share = f"{shares[i, j]:.0%}" if shares[i, j] >= 0.005 else "<1%"
        text = f"{int(counts[i, j])}\n{share}"
        axis.text(j, i, text, ha="center", va="center", color=ink, fontsize=axes.POINTS - 0.5)


def draw_points(points: Tensor, labels: Tensor, names: Sequence[str], side: int) -> np.ndarray:
    """Draw the latent plane: points with axes and, in color, their classes.

    Args:
        points: (N, 2) in [0, 1]^2, quantiles of the prior; the second coordinate points upwards.
        labels: (N,) the class of each point.
        names: names of the classes, listed in a legend. Empty: no legend.
        side: pixels of the square.
    """
    return _draw_squares(None, points, labels, names, side)


def draw_plane(
    decoded: np.ndarray, points: Tensor, labels: Tensor, names: Sequence[str]
) -> np.ndarray:
    """Draw a square of decoded images, and beside it `draw_points`, with the same axes.

    Args:
        decoded: uint8 (S, S) or (S, S, 3).
        points, labels, names: see `draw_points`.
    """
    return _draw_squares(decoded, points, labels, names, max(len(decoded), 200))


def _draw_squares(
    decoded: np.ndarray | None, points: Tensor, labels: Tensor, names: Sequence[str], side: int
) -> np.ndarray:
    left, gap, n = 54, 64, 1 if decoded is None else 2
    short = [_short(name) for name in names[: side // LINE]]
    legend = axes.width_of(short) + 44 if short else 2 * MARGIN

    def paint(figure: Any) -> None:
        lefts = [left + k * (side + gap) for k in range(n)]
        squares = [axes.place(figure, x, MARGIN, side, side) for x in lefts]
        for square in squares:
            square.set(xlim=(0, 1), ylim=(0, 1), xlabel="quantile of z_1", ylabel="quantile of z_2")
            square.spines[:].set_visible(True)
        if decoded is not None:
            extent = (0, 1, 0, 1)
            squares[0].imshow(decoded, cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto")
        shades = _shades(len(names))
        chosen = [shades[label] for label in labels.tolist()]
        squares[-1].scatter(*points.T.numpy(), s=6, c=chosen, linewidths=0)
        for k, name in enumerate(short):
            y, to = 1 - (k + 0.5) * LINE / side, squares[-1].transAxes
            squares[-1].text(1 + 10 / side, y, "●", color=shades[k], va="center", transform=to)
            squares[-1].text(1 + 26 / side, y, name, va="center", transform=to)

    width = left + n * side + (n - 1) * gap + legend
    return axes.draw(width, MARGIN + side + 46, [*short, "●"], paint)


def _shades(n: int) -> list[Any]:
    """Return a color for each of n classes, at least one."""
    from matplotlib import colormaps

    colors = colormaps["tab10" if n <= 10 else "turbo"]
    return [colors(k if n <= 10 else k / (n - 1)) for k in range(max(1, n))]


def _short(name: str) -> str:
    return fonts.shortened(fonts.drawable(name).replace("\n", " "), SIZE, MAX_NAME)


def _fits(names: Sequence[str], cell: int) -> bool:
    """Return whether all names fit upright into the width of a cell."""
    return axes.width_of(names) < cell
