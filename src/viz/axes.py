"""Draw with matplotlib: what all pictures with axes share.

matplotlib is imported when the first one is drawn. It draws without a display, in any script, and
leaves its global state and all random generators as they were.
"""

import io
import logging
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from src.viz import fonts

DPI = 100
POINTS = 8  # height of letters
SIZE = round(POINTS * DPI / 72)  # the same in pixels
MARGIN = 8  # pixels at the edges

Paint = Callable[[Any], None]  # draws into a matplotlib.figure.Figure


def draw(width: int, height: int, texts: Iterable[str], paint: Paint) -> np.ndarray:
    """Return a picture, uint8 (height, width, 3).

    Args:
        width: in pixels.
        height: in pixels.
        texts: all words that are drawn and not plain English, to choose the fonts.
        paint: a function that draws into the figure.
    """
    return _rendered(width, height, texts, paint, _pixels)


def draw_file(
    width: int, height: int, texts: Iterable[str], paint: Paint, kind: str = "png"
) -> bytes:
    """Return the bytes of a picture file, see `draw`.

    Args:
        kind: its format: one of matplotlib, such as `png`, `svg` or `pdf`, or of Pillow.
    """

    def save(figure: Any) -> bytes:
        if kind not in figure.canvas.get_supported_filetypes():
            from src.viz import grids  # imports torch

            return grids.encoded(_pixels(figure), f".{kind}")
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind)
        return buffer.getvalue()

    return _rendered(width, height, texts, paint, save)


def place(figure: Any, left: float, top: float, width: float, height: float) -> Any:
    """Return new axes, placed in pixels from the top left corner of the figure."""
    full_width, full_height = figure.get_size_inches() * DPI
    bottom = full_height - top - height
    return figure.add_axes(
        (left / full_width, bottom / full_height, width / full_width, height / full_height)
    )


def use_log_scale(axis: Any, which: str) -> None:
    """Make an axis logarithmic, with plain numbers at powers of ten.

    If it spans less than two decades, there are numbers between them.

    matplotlib's own labels are formulas, which `draw` does not parse.

    Args:
        axis: axes of matplotlib.
        which: `x` or `y`.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    getattr(axis, f"set_{which}scale")("log")
    ticks = getattr(axis, f"{which}axis")
    low, high = getattr(axis, f"get_{which}lim")()
    if high / low < 100:
        ticks.set_major_locator(LogLocator(subs=(1, 3)))
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ticks.set_minor_formatter(NullFormatter())


class Title:
    """A title at the top left of a figure, wrapped to its width.

    Args:
        text: one or more lines.
        width: of the figure in pixels.

    Attributes:
        height: pixels that it takes.
    """

    def __init__(self, text: str, width: int) -> None:
        parts, room = fonts.drawable(text).split("\n"), width - 2 * MARGIN
        self.lines = [line for part in parts for line in fonts.wrapped(part, SIZE + 1, room)]
        self.height = MARGIN + len(self.lines) * (SIZE + 6)

    def draw(self, figure: Any) -> None:
        """Draw it."""
        full_width, full_height = figure.get_size_inches() * DPI
        for row, line in enumerate(self.lines):
            y = 1 - (MARGIN + row * (SIZE + 6)) / full_height
            figure.text(MARGIN / full_width, y, line, va="top", fontsize=(SIZE + 1) * 72 / DPI)


def width_of(texts: Iterable[str]) -> int:
    """Return the width of the longest of `texts` in pixels, 0 without any.

    matplotlib rounds the width of each letter, so the estimate is a little larger.
    """
    return round(1.06 * max((fonts.length(text, SIZE) for text in texts), default=0))


def _rendered(
    width: int, height: int, texts: Iterable[str], paint: Paint, finish: Callable[[Any], Any]
) -> Any:
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # silent about its font cache
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    families = [_family(path) for path in fonts.font_files(texts)]
    style: dict[Any, Any] = {
        "font.family": families,
        "font.size": POINTS,
        "axes.titlesize": POINTS + 1,
        "text.parse_math": False,  # a class may be named $5
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        FigureCanvasAgg(figure)
        paint(figure)
        return finish(figure)


def _pixels(figure: Any) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


@cache
def _family(path: Path) -> str:
    """Make a font known to matplotlib; return the name of its family."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    font_manager.fontManager.addfont(path)
    return str(FT2Font(path).family_name)
