"""Measured values against a setting that grows: a panel for each kind of value."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.core.files import write_atomically
from src.viz import axes
from src.viz.axes import MARGIN, SIZE, Title
from src.viz.trials import is_wide

PANEL = (470, 300)  # pixels of a panel with its words
LEFT, TOP, RIGHT, BOTTOM = 66, 30, 22, 50  # pixels of a panel around its axes


def save_scaling(
    settings: Sequence[int],
    panels: Mapping[str, Sequence[Sequence[float]]],
    label: str,
    title: str,
    path: Path,
) -> None:
    """Write a picture with the medians of measured values, their ranges, and numbers.

    The axis of the setting is logarithmic. That of the values starts at 0, or is logarithmic if
    they differ greatly.

    Args:
        settings: N values of the setting, ascending.
        panels: kind with its unit -> N lists of measured values, none of them empty.
        label: what the setting is, with its unit.
        title: text above the panels.
        path: the picture; its extension gives the format.
    """
    head = Title(title, len(panels) * PANEL[0])
    top = head.height + MARGIN

    def paint(figure: Any) -> None:
        head.draw(figure)
        for k, (name, measured) in enumerate(panels.items()):
            size = (PANEL[0] - LEFT - RIGHT, PANEL[1] - TOP - BOTTOM)
            axis = axes.place(figure, k * PANEL[0] + LEFT, top + TOP, *size)
            axis.set_title(name, loc="left", fontsize=(SIZE + 1) * 72 / axes.DPI)
            _draw(axis, settings, measured, f"C{k}")
            axis.set_xlabel(label)

    form = path.suffix.removeprefix(".").lower()
    size = (len(panels) * PANEL[0], top + PANEL[1])
    content = axes.draw_file(*size, [title, label, *panels], paint, form)
    write_atomically(path, lambda to: to.write_bytes(content))


def _draw(
    axis: Any, settings: Sequence[int], measured: Sequence[Sequence[float]], color: str
) -> None:
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import FuncFormatter, NullLocator

    middle = [statistics.median(values) for values in measured]
    low, high = [min(values) for values in measured], [max(values) for values in measured]
    axis.fill_between(settings, low, high, color=color, alpha=0.2, linewidth=0)
    axis.plot(settings, middle, "o-", color=color, linewidth=1.5, markersize=4)
    axis.set_xscale("log")
    axis.set_xticks(settings, [f"{value:,}" for value in settings])
    axis.xaxis.set_minor_locator(NullLocator())
    if is_wide(middle):
        axis.set_ylim(min(low) / 1.3, max(high) * 1.6)
        axes.use_log_scale(axis, "y")
    else:
        axis.set_ylim(0, 1.15 * max(high))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.grid(alpha=0.3)
    for setting, value, top in zip(settings, middle, high, strict=True):
        axis.annotate(
            f"{value:,.0f}",
            (setting, top),
            (0, 5),
            textcoords="offset points",
            ha="center",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],  # above the line
        )
