"""Points in a square, colored by class.

The picture is uint8, (H, W, 3).
"""

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from src.viz import fonts

LEGEND, LINE, SMALL = 110, 18, 11  # pixels: width of the legend, height of its lines, its letters


def draw_scatter(points: Tensor, labels: Tensor, names: Sequence[str], side: int) -> np.ndarray:
    """Return points (N, 2) in [0, 1]^2, the first coordinate to the right, the second upwards.

    Args:
        labels: (N,) the class of each point.
        names: names of the classes, listed in a legend to the right. Empty: no legend.
        side: height of the picture in pixels, and width of the square.
    """
    sheet = Image.new("RGB", (side + LEGEND * bool(names), side), "white")
    draw = ImageDraw.Draw(sheet)
    colors = _colors(max(len(names), 1))
    for (x, y), label in zip(points.tolist(), labels.tolist(), strict=True):
        left, top = round(x * (side - 1)), round((1 - y) * (side - 1))
        draw.ellipse([left - 2, top - 2, left + 2, top + 2], fill=colors[label])
    draw.rectangle([0, 0, side - 1, side - 1], outline=(160, 160, 160))
    for i, name in enumerate(names[: side // LINE]):
        top = i * LINE + 4
        draw.rectangle([side + 8, top, side + 18, top + 10], fill=colors[i])
        fonts.write(draw, (side + 24, top - 1), name, SMALL)
    return np.asarray(sheet)


def _colors(n: int) -> list[tuple[int, int, int]]:
    """Return n colors, evenly spaced in hue; neighbors also differ in brightness."""
    values = [colorsys.hsv_to_rgb(i / n, 0.9, 0.9 if i % 2 else 0.6) for i in range(n)]
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in values]
