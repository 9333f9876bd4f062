"""Pictures with text: captioned images, bar charts, confusion matrices, feature maps by layer.

Every picture is uint8, (H, W) gray or (H, W, 3).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from src.viz import fonts
from src.viz.grids import enlarge, grid, stretch_contrast

FONT = 13  # height of letters in captions, in pixels
LINE = 18  # from line to line
MAX_TEXT = 180  # images are enlarged to the width of their caption, up to this
SMALL = 11  # height of letters in charts, in pixels
RIGHT, WRONG = (0, 120, 0), (200, 0, 0)  # colors of captions


def draw_captioned(
    images: Tensor,
    captions: Sequence[str],
    columns: int | None = None,
    scale: int | None = None,
    colors: Sequence[tuple[int, int, int]] | None = None,
    max_side: int = 256,
) -> np.ndarray:
    """Draw images in rows on a white sheet, each with a caption below it.

    Args:
        images: (N, C, H, W) in [0, 1], C 1 or 3.
        captions: one per image, in any script, with a line break between lines. A line wider than
            180 pixels and than its image is truncated.
        columns: images per row; None: a square grid.
        scale: size of each pixel; None: enlarge the images to the width of the captions.
        colors: colors of the captions; None: black.
        max_side: images with a longer side are shrunk to it, in pixels.
    """
    if max(images.shape[-2:]) > max_side:
        shrunk = max_side / max(images.shape[-2:])
        sides = [max(1, round(side * shrunk)) for side in images.shape[-2:]]
        images = F.interpolate(images.float(), sides, mode="bilinear", antialias=True)
    lines = [caption.split("\n") for caption in captions]
    longest = max(fonts.length(line, FONT) for text in lines for line in text)
    widest = math.ceil(min(longest, MAX_TEXT))
    images = enlarge(images, scale or max(1, math.ceil(widest / images.shape[-1])))
    height, width = images.shape[-2:]
    cell, rows = max(width, widest), max(map(len, lines))
    sheets = []
    for i, image in enumerate((images * 255).round().byte()):
        sheet = Image.new("RGB", (cell, height + rows * LINE + 6), "white")
        sheet.paste(Image.fromarray(image.permute(1, 2, 0).numpy()), ((cell - width) // 2, 0))
        draw = ImageDraw.Draw(sheet)
        for row, line in enumerate(lines[i]):
            place = (cell / 2, height + row * LINE + 2)
            color = colors[i] if colors else (0, 0, 0)
            fonts.write(draw, place, _truncate(line, cell), FONT, color, anchor="ma")
        sheets.append(torch.from_numpy(np.array(sheet)).permute(2, 0, 1) / 255)
    return grid(torch.stack(sheets), columns, gap=8)


def draw_predictions(
    images: Tensor, true: Tensor, predicted: Tensor, confidence: Tensor, names: Sequence[str]
) -> np.ndarray:
    """Draw images with their predicted and true classes, in green if they agree, else in red.

    Args:
        images: (N, C, H, W) in [0, 1].
        true: true classes (N,).
        predicted: predicted classes (N,).
        confidence: probability of the predicted class (N,).
        names: names of the classes.
    """
    captions = [
        f"{names[s]} {p:.0%}\n(is {names[t]})"
        for s, p, t in zip(predicted, confidence, true, strict=True)
    ]
    colors = [RIGHT if s == t else WRONG for s, t in zip(predicted, true, strict=True)]
    return draw_captioned(images, captions, colors=colors, max_side=128)


def draw_bars(
    values: Sequence[float],
    title: str,
    height: int = 160,
    width: int = 640,
    names: Sequence[str] | None = None,
    intervals: Sequence[tuple[float, float]] | None = None,
) -> np.ndarray:
    """Draw a bar for each value, from 0 up, labeled with the largest value or interval end.

    Args:
        values: one per bar.
        title: text above the bars.
        height: height of the picture; upright names are added to it.
        width: width of the picture.
        names: one below each bar, upright if one is wider than its bar; None: the numbers of the
            first and last bar.
        intervals: (low, high) around each value, drawn as a line with two ends.
    """
    top, left = 30, 60
    bottom, step = height - 20, (width - left - 10) / len(values)
    longest = max((math.ceil(fonts.length(name, SMALL)) for name in names or ()), default=0)
    upright = longest > 0.9 * step
    picture = Image.new("L", (width, bottom + longest + 8 if upright else height), 255)
    draw = ImageDraw.Draw(picture)
    top_value = max([*values, *(high for _, high in intervals or ()), 1e-12])

    def level(value: float) -> float:
        return bottom - max(value, 0) / top_value * (bottom - top)

    for i, value in enumerate(values):
        draw.rectangle([left + i * step, level(value), left + (i + 0.8) * step, bottom], fill=70)
    for i, (low, high) in enumerate(intervals or ()):
        middle = left + (i + 0.4) * step
        draw.line([middle, level(low), middle, level(high)], fill=160, width=2)
        for end in (low, high):
            draw.line([middle - 4, level(end), middle + 4, level(end)], fill=160, width=2)
    fonts.write(draw, (left, 6), title, SMALL)
    fonts.write(draw, (4, top - 7), f"{top_value:.3g}", SMALL)
    fonts.write(draw, (4, bottom - 12), "0", SMALL)
    for i, name in enumerate(
        names or ["1", *[""] * (len(values) - 2), str(len(values))][: len(values)]
    ):
        if upright:
            label = Image.new("L", (longest + 2, 16), 255)
            fonts.write(ImageDraw.Draw(label), (longest, 0), name, SMALL, anchor="ra")
            picture.paste(label.rotate(90, expand=True), (round(left + i * step), bottom + 4))
        else:
            fonts.write(draw, (left + i * step, bottom + 3), name, SMALL)
    return np.asarray(picture)


def draw_confusion(counts: Tensor, names: Sequence[str]) -> np.ndarray:
    """Draw a confusion matrix: a row per true class, a column per predicted class.

    Cells are shaded by their share of the row. Up to 20 classes the counts are written into them.

    Args:
        counts: (K, K), by true and predicted class.
        names: K class names.
    """
    n = len(names)
    numbered = n <= 20
    cell = 44 if numbered else max(14, 700 // n) if n <= 100 else max(1, 1400 // n)
    named = cell >= 14
    margin = 4 + math.ceil(max(fonts.length(name, SMALL) for name in names)) if named else 4
    shares = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    # the square root makes rare mistakes visible
    shade = (255 * (1 - shares.sqrt())).round().byte().numpy()
    sheet = Image.new("L", (margin + n * cell, margin + n * cell), 255)
    sheet.paste(
        Image.fromarray(shade).resize((n * cell, n * cell), Image.Resampling.NEAREST),
        (margin, margin),
    )
    draw = ImageDraw.Draw(sheet)
    for i, name in enumerate(names if named else ()):
        middle = margin + (i + 0.5) * cell
        fonts.write(draw, (margin - 3, middle), name, SMALL, anchor="rm")
        label = Image.new("L", (margin, 14), 255)
        fonts.write(ImageDraw.Draw(label), (2, 7), name, SMALL, anchor="lm")
        upright = label.rotate(90, expand=True)
        sheet.paste(upright, (round(middle) - 7, margin - upright.height))
        for j in range(n if numbered else 0):
            ink = 255 if shade[i, j] < 128 else 0
            place = (margin + (j + 0.5) * cell, middle)
            fonts.write(draw, place, str(int(counts[i, j])), SMALL, ink, anchor="mm")
    return np.asarray(sheet)


def draw_feature_maps(image: Tensor, maps: dict[str, Tensor], side: int = 48) -> np.ndarray:
    """Draw an image, and below it a row per layer: its name and its maps.

    Args:
        image: (C, H, W).
        maps: (K, h, w) by layer; each map is stretched from its smallest value (black) to its
            largest (white).
        side: pixels of a map in the picture.
    """
    rows = [("image", image.unsqueeze(0))] + [
        (name, layer.unsqueeze(1)) for name, layer in maps.items()
    ]
    left, top = 110, side + 4
    columns = max(len(layer) for _, layer in rows)
    sheet = Image.new("RGB", (left + columns * (side + 3), len(rows) * top), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (name, layer) in enumerate(rows):
        shape = "x".join(map(str, layer.shape[-2:]))
        for line, text in enumerate((name[-16:], shape)):
            fonts.write(draw, (4, row * top + 6 + line * LINE), text, SMALL)
        shown = F.interpolate(stretch_contrast(layer), (side, side), mode="nearest-exact")
        for column, picture in enumerate(
            shown.expand(-1, 3, -1, -1).mul(255).byte().permute(0, 2, 3, 1).numpy()
        ):
            sheet.paste(Image.fromarray(picture), (left + column * (side + 3), row * top))
    return np.asarray(sheet)


def _truncate(line: str, width: int) -> str:
    """Return `line`, or as much of it as fits into `width` pixels with dots after it."""
    if fonts.length(line, FONT) <= width:
        return line
    return next(
        part
        for n in range(len(line), -1, -1)
        if fonts.length(part := f"{line[:n]}...", FONT) <= width or not n
    )
