"""Words on sheets of images: captions, titles, headers of columns, legends.

Every picture is uint8, (H, W) gray or (H, W, 3).
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from src.viz import fonts
from src.viz.grids import enlarge, grid, stretch_contrast

Color = tuple[int, int, int]

FONT = 13  # height of letters, in pixels
SMALL = 11  # height of letters in headers of columns
LINE = 18  # from line to line
MARGIN = 4  # at the edges
MIN_SIDE = 72  # images are enlarged to about this width
MAX_TEXT = 180  # images are enlarged to the width of their caption, up to this
MIN_TITLE = 240  # pixels; a narrower sheet with a title gets a white margin at the right
RIGHT, WRONG = (0, 120, 0), (200, 0, 0)  # colors of captions


def add_title(
    picture: np.ndarray,
    title: str,
    headers: Sequence[str] = (),
    legend: Mapping[str, Color] | None = None,
) -> np.ndarray:
    """Return a picture with words above it, (H, W, 3).

    Args:
        picture: a sheet of images.
        title: lines of text, in any script; long ones are wrapped.
        headers: titles of equally wide columns of the picture, wrapped into up to two lines.
        legend: color -> meaning, drawn below the title.
    """
    height, width = picture.shape[:2]
    full = max(width, MIN_TITLE)
    lines = [
        line for part in title.split("\n") for line in fonts.wrapped(part, FONT, full - 2 * MARGIN)
    ]
    column = width / max(1, len(headers))
    cells = [fonts.wrapped(header, SMALL, column - 2)[:2] for header in headers]
    rows = len(lines) + bool(legend)
    deepest = max(map(len, cells), default=0)
    top = MARGIN + rows * LINE + deepest * (LINE - 4) + MARGIN
    sheet = Image.new("RGB", (full, top + height), "white")
    sheet.paste(Image.fromarray(picture), (0, top))
    draw = ImageDraw.Draw(sheet)
    for row, line in enumerate(lines):
        fonts.write(draw, (MARGIN, MARGIN + row * LINE), line, FONT)
    _draw_legend(draw, legend or {}, MARGIN + len(lines) * LINE)
    for k, cell in enumerate(cells):
        for row, line in enumerate(cell):
            y = top - MARGIN - (len(cell) - row) * (LINE - 4)
            shown = fonts.shortened(line, SMALL, column - 2)
            fonts.write(draw, ((k + 0.5) * column, y), shown, SMALL, anchor="ma")
    return np.asarray(sheet)


def _draw_legend(draw: ImageDraw.ImageDraw, legend: Mapping[str, Color], top: int) -> None:
    x = float(MARGIN)
    for name, color in legend.items():
        draw.rectangle([x, top + 5, x + 9, top + 14], fill=color)
        fonts.write(draw, (x + 14, top + 1), name, FONT)
        x += 14 + fonts.length(name, FONT) + 16


def draw_feature_maps(
    image: Tensor, maps: Mapping[str, Tensor], title: str, side: int = 56, gap: int = 4
) -> np.ndarray:
    """Draw an image, and below it for each layer a line with its name and a row of its maps.

    Args:
        image: (C, H, W).
        maps: (K, h, w) by layer; each map is stretched from its smallest value (black) to its
            largest (white).
        title: text above the image.
        side: pixels of a map in the picture.
        gap: pixels between maps.
    """
    rows = {"image": image.unsqueeze(0)} | {
        f"{name}: {'x'.join(map(str, layer.shape[1:]))} pixels": layer.unsqueeze(1)
        for name, layer in maps.items()
    }
    width = max(MIN_TITLE, max(map(len, rows.values())) * (side + gap) + gap)
    sheets = []
    for name, layer in rows.items():
        shown = F.interpolate(enlarge(stretch_contrast(layer), 1), side, mode="nearest-exact")
        sheet = torch.ones(3, side, width)
        for column, picture in enumerate(shown):
            left = gap + column * (side + gap)
            sheet[:, :, left : left + side] = picture
        sheets.append(add_title((sheet * 255).round().byte().permute(1, 2, 0).numpy(), name))
    return add_title(np.concatenate(sheets), title)


def draw_captioned(
    images: Tensor,
    captions: Sequence[str],
    columns: int | None = None,
    scale: int | None = None,
    colors: Sequence[Color] | None = None,
    max_side: int = 256,
) -> np.ndarray:
    """Draw images in rows on a white sheet, each with a caption below it.

    Args:
        images: (N, C, H, W) in [0, 1], C 1 or 3.
        captions: one per image, in any script, with a line break between lines. A line wider than
            180 pixels and than its image is truncated.
        columns: images per row; None: a square grid.
        scale: size of each pixel; None: enlarge the images to the width of the captions, or to
            72 pixels.
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
    images = enlarge(images, scale or math.ceil(max(widest, MIN_SIDE) / images.shape[-1]))
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
            fonts.write(draw, place, fonts.shortened(line, FONT, cell), FONT, color, anchor="ma")
        sheets.append(torch.from_numpy(np.array(sheet)).permute(2, 0, 1) / 255)
    return grid(torch.stack(sheets), columns, gap=8)


def draw_predictions(
    images: Tensor, true: Tensor, predicted: Tensor, confidence: Tensor, names: Sequence[str]
) -> np.ndarray:
    """Draw images with their predicted classes, in green if right, else in red with the true class.

    Args:
        images: (N, C, H, W) in [0, 1].
        true: true classes (N,).
        predicted: predicted classes (N,).
        confidence: probability of the predicted class (N,).
        names: names of the classes.
    """
    right = [bool(one) for one in true == predicted]
    captions = [
        f"{names[s]} {p:.0%}" + ("" if is_right else f"\n(is {names[t]})")
        for s, p, t, is_right in zip(predicted, confidence, true, right, strict=True)
    ]
    colors = [RIGHT if is_right else WRONG for is_right in right]
    return draw_captioned(images, captions, colors=colors, max_side=128)
