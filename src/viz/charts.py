"""Pictures with words: draw_captioned images, bars, a confusion matrix, feature maps by layer.

Every picture is uint8, (H, W) grey or (H, W, 3).
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

FONT, LINE, MAX_TEXT = (
    13,
    18,
    180,
)  # of captions, in pixels: letters, from line to line, the widest line that images grow for
SMALL = 11  # letters in charts, in pixels
RIGHT, WRONG = (0, 120, 0), (200, 0, 0)  # captions of answers


def draw_captioned(
    images: Tensor,
    captions: Sequence[str],
    columns: int | None = None,
    scale: int | None = None,
    colours: Sequence[tuple[int, int, int]] | None = None,
    max_side: int = 256,
) -> np.ndarray:
    """Images (N, C, H, W) in [0, 1], C 1 or 3, row by row on a white sheet, each with its caption beneath it.

    Args:
        captions: one an image, in any script, a line break where a line ends; a line wider than 180 pixels and than its image
            is cut short.
        columns: images a row, None for a square.
        scale: each pixel drawn as scale x scale; None: as makes the images as wide as the captions.
        colours: of each caption, None for black.
        max_side: pixels along an image's longer side; what is larger is shrunk.
    """
    if max(images.shape[-2:]) > max_side:
        shrunk = max_side / max(images.shape[-2:])
        images = F.interpolate(images.float(), scale_factor=shrunk, mode="bilinear", antialias=True)
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
            colour = colours[i] if colours else (0, 0, 0)
            fonts.write(draw, place, _cut(line, cell), FONT, colour, anchor="ma")
        sheets.append(torch.from_numpy(np.array(sheet)).permute(2, 0, 1) / 255)
    return grid(torch.stack(sheets), columns, gap=8)


def draw_predictions(
    images: Tensor, true: Tensor, said: Tensor, share: Tensor, names: Sequence[str]
) -> np.ndarray:
    """Images (N, C, H, W) in [0, 1] with what was said of each (N,), its probability (N,) and what it is (N,): green or red."""
    captions = [
        f"{names[s]} {p:.0%}\n(is {names[t]})" for s, p, t in zip(said, share, true, strict=True)
    ]
    colours = [RIGHT if s == t else WRONG for s, t in zip(said, true, strict=True)]
    return draw_captioned(images, captions, colours=colours, max_side=128)


def draw_bars(
    values: Sequence[float],
    title: str,
    height: int = 160,
    width: int = 640,
    names: Sequence[str] | None = None,
    intervals: Sequence[tuple[float, float]] | None = None,
) -> np.ndarray:
    """A bar for each value, from 0 up, with the greatest value (or end of an interval) written beside them.

    Args:
        height: of the picture; names that must stand upright add to it.
        names: one below each bar, upright where one is wider than its bar; None: the first and the last place.
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
    """Counts (true, said): a row a true class, a column an answer, shaded by the row's shares; 20 classes with numbers."""
    n = len(names)
    numbered = n <= 20
    cell = 44 if numbered else max(14, 700 // n) if n <= 100 else max(1, 1400 // n)
    named = cell >= 14
    margin = 4 + math.ceil(max(fonts.length(name, SMALL) for name in names)) if named else 4
    shares = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    shade = (
        (255 * (1 - shares.sqrt())).round().byte().numpy()
    )  # the root: a few mistakes must be seen
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
    """A row a layer under the image (C, H, W): its name and its maps (K, h, w), each from its least (black) to its greatest.

    Maps are brought to `side` pixels, whole times where they are smaller.
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


def _cut(line: str, width: int) -> str:
    """`line`, or as much of it as fits `width` pixels with dots behind it."""
    if fonts.length(line, FONT) <= width:
        return line
    return next(
        part
        for n in range(len(line), -1, -1)
        if fonts.length(part := f"{line[:n]}...", FONT) <= width or not n
    )
