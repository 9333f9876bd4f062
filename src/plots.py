"""Tensors to pictures: grids, filter tiles, canvases, bars, GIFs. Knows no model.

Every picture is uint8, (H, W) grey or (H, W, 3).
"""

import io
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

FONT, LINE, MOST_TEXT = 14, 18, 180  # of captions, in pixels: letters, from line to line, the widest line that images grow for
RIGHT, WRONG = (0, 120, 0), (200, 0, 0)  # captions of answers
COLOURS = {"read": (0, 170, 0), "write": (220, 0, 0)}


class Canvases(NamedTuple):
    """Images as they grow.

    Attributes:
        frames: (T + 1, n, C, H, W) in [0, 1], the blank canvas first.
        windows: `read` or `write` -> (T, n, 5): top, left, bottom, right of the window and its sigma, in pixels, the top left
            pixel's middle at (0, 0); what was read and written to make frame t + 1. Empty for a model without windows.
        images: (n, C, H, W) that are reconstructed; None for samples.
    """

    frames: Tensor
    windows: dict[str, Tensor]
    images: Tensor | None = None


def grid(images: Tensor, columns: int | None = None, scale: int = 1, gap: int = 2) -> np.ndarray:
    """Images (N, C, H, W) in [0, 1], C 1 or 3, row by row on a white sheet.

    Args:
        columns: images a row, None for a square.
        scale: each pixel drawn as scale x scale.
        gap: white pixels between images and around them.
    """
    n, _, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    pixels = images.detach().float().cpu().clamp(0, 1).mul(255).round().byte()
    pixels = pixels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    cell_h, cell_w = height * scale + gap, width * scale + gap
    sheet = torch.full((rows * cell_h + gap, columns * cell_w + gap, pixels.shape[1]), 255, dtype=torch.uint8)
    for i, picture in enumerate(pixels):
        top, left = gap + i // columns * cell_h, gap + i % columns * cell_w
        sheet[top : top + height * scale, left : left + width * scale] = picture.permute(1, 2, 0)
    return sheet.squeeze(2).numpy()


def captioned(
    images: Tensor,
    captions: Sequence[str],
    columns: int | None = None,
    scale: int | None = None,
    colours: Sequence[tuple[int, int, int]] | None = None,
    most: int = 256,
) -> np.ndarray:
    """Images (N, C, H, W) in [0, 1], C 1 or 3, row by row on a white sheet, each with its caption beneath it.

    Args:
        captions: one an image, a line break where a line ends; a line wider than 180 pixels and than its image is cut short.
            Pillow's own font has ASCII alone: letters lose their accents, others show as a question mark.
        columns: images a row, None for a square.
        scale: each pixel drawn as scale x scale; None: as makes the images as wide as the captions.
        colours: of each caption, None for black.
        most: pixels along an image's longer side; what is larger is shrunk.
    """
    if max(images.shape[-2:]) > most:
        shrunk = most / max(images.shape[-2:])
        images = F.interpolate(images.float(), scale_factor=shrunk, mode="bilinear", antialias=True)
    font = ImageFont.load_default(FONT)
    lines = [[_ascii(line) for line in caption.split("\n")] for caption in captions]
    widest = math.ceil(min(max(font.getlength(line) for text in lines for line in text), MOST_TEXT))
    images = _enlarged(images, scale or max(1, math.ceil(widest / images.shape[-1])))
    height, width = images.shape[-2:]
    cell, rows = max(width, widest), max(map(len, lines))
    sheets = []
    for i, image in enumerate((images * 255).round().byte()):
        sheet = Image.new("RGB", (cell, height + rows * LINE + 6), "white")
        sheet.paste(Image.fromarray(image.permute(1, 2, 0).numpy()), ((cell - width) // 2, 0))
        draw = ImageDraw.Draw(sheet)
        for row, line in enumerate(lines[i]):
            place = (cell / 2, height + row * LINE + 2)
            draw.text(place, _cut(line, font, cell), colours[i] if colours else (0, 0, 0), font, anchor="ma")
        sheets.append(torch.from_numpy(np.array(sheet)).permute(2, 0, 1) / 255)
    return grid(torch.stack(sheets), columns, gap=8)


def _ascii(line: str) -> str:
    """`line` in the letters that ImageFont.load_default draws."""
    letters = (letter for letter in unicodedata.normalize("NFKD", line) if not unicodedata.combining(letter))
    return "".join(letters).encode("ascii", "replace").decode()


def _cut(line: str, font: Any, width: int) -> str:
    """`line`, or as much of it as fits `width` pixels with dots behind it."""
    if font.getlength(line) <= width:
        return line
    return next(part for n in range(len(line), -1, -1) if font.getlength(part := f"{line[:n]}...") <= width or not n)


def filter_tile(weight: Tensor, most: int = 64, side: int = 24) -> np.ndarray:
    """The filters of a convolution, weight (out, in, h, w), as a grid: black the least weight of the layer, white the greatest.

    Three input channels show in colour, one in grey, more as the filters' first input channel. At most `most` filters, each
    enlarged to about `side` pixels.
    """
    filters = weight.detach().float().cpu()
    filters = filters if filters.shape[1] in (1, 3) else filters[:, :1]
    low, high = filters.min(), filters.max()
    filters = (filters[:most] - low) / (high - low).clamp_min(1e-12)
    return grid(filters, scale=max(1, side // filters.shape[-1]), gap=1)


def canvas_frames(canvases: Canvases, scale: int = 4) -> list[np.ndarray]:
    """A picture for each step: a grid of all canvases with their windows, green for reading, red for writing.

    A window's border is as wide as its filters' sigma: thin is sharp. Above each reconstruction stands its image.
    """
    painted = _painted(canvases, scale)  # (T + 1, n, 3, H, W)
    if canvases.images is None:
        return [grid(frame) for frame in painted]
    columns = min(painted.shape[1], 8)
    empty = painted.new_ones(-painted.shape[1] % columns, *painted.shape[2:])  # fills the last row
    images = torch.cat([_enlarged(canvases.images, scale), empty]).split(columns)
    pages = []
    for frame in painted:
        pairs = zip(images, torch.cat([frame, empty]).split(columns), strict=True)
        pages.append(grid(torch.cat([row for pair in pairs for row in pair]), columns))
    return pages


def canvas_strip(canvases: Canvases, scale: int = 2, most: int = 8, columns: int = 16) -> np.ndarray:
    """A row an image, at most `most`: its canvas from blank to the last, at most `columns` steps evenly chosen, and behind a
    reconstruction the image itself."""
    painted = _painted(canvases, scale)[:, :most]
    steps = np.linspace(0, len(painted) - 1, min(columns, len(painted))).round()
    rows = painted[torch.tensor(steps).long()].transpose(0, 1)  # (n, columns, 3, H, W)
    if canvases.images is not None:
        rows = torch.cat([rows, _enlarged(canvases.images[:most], scale).unsqueeze(1)], dim=1)
    return grid(rows.flatten(0, 1), columns=rows.shape[1])


def bars(
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
    top, left, font = 30, 60, ImageFont.load_default()
    bottom, step = height - 20, (width - left - 10) / len(values)
    longest = max((int(font.getlength(name)) for name in names or ()), default=0)
    upright = longest > 0.9 * step
    picture = Image.new("L", (width, bottom + longest + 8 if upright else height), 255)
    draw = ImageDraw.Draw(picture)
    most = max([*values, *(high for _, high in intervals or ()), 1e-12])

    def level(value: float) -> float:
        return bottom - max(value, 0) / most * (bottom - top)

    for i, value in enumerate(values):
        draw.rectangle([left + i * step, level(value), left + (i + 0.8) * step, bottom], fill=70)
    for i, (low, high) in enumerate(intervals or ()):
        middle = left + (i + 0.4) * step
        draw.line([middle, level(low), middle, level(high)], fill=160, width=2)
        for end in (low, high):
            draw.line([middle - 4, level(end), middle + 4, level(end)], fill=160, width=2)
    draw.text((left, 8), title, fill=0)
    draw.text((4, top - 5), f"{most:.3g}", fill=0)
    draw.text((4, bottom - 10), "0", fill=0)
    for i, name in enumerate(names or ["1", *[""] * (len(values) - 2), str(len(values))][: len(values)]):
        if upright:
            label = Image.new("L", (longest + 2, 14), 255)
            ImageDraw.Draw(label).text((longest - font.getlength(name), 0), name, fill=0, font=font)
            picture.paste(label.rotate(90, expand=True), (round(left + i * step), bottom + 4))
        else:
            draw.text((left + i * step, bottom + 4), name, fill=0, font=font)
    return np.asarray(picture)


def _painted(canvases: Canvases, scale: int) -> Tensor:
    """(T + 1, n, 3, H * scale, W * scale) in [0, 1] with the windows drawn on."""
    frames = _enlarged(canvases.frames.flatten(0, 1), scale).unflatten(0, canvases.frames.shape[:2])
    for t in range(1, len(frames)):
        for i in range(frames.shape[1]):
            picture = Image.fromarray((frames[t, i] * 255).round().byte().permute(1, 2, 0).numpy())
            draw = ImageDraw.Draw(picture)
            for name, windows in canvases.windows.items():
                *corners, sigma = windows[t - 1, i].float().tolist()
                top, left, bottom, right = ((corner + 0.5) * scale for corner in corners)
                border = round(min(max(sigma * scale / 2, 1), scale * 2))
                draw.rectangle([left, top, right, bottom], outline=COLOURS[name], width=border)
            frames[t, i] = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    return frames


def _enlarged(images: Tensor, scale: int) -> Tensor:
    """Images (N, C, H, W) in [0, 1] on the CPU in colour, each pixel scale x scale."""
    images = images.detach().float().cpu().clamp(0, 1).expand(-1, 3, -1, -1)
    return images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def overlaid(images: Tensor, heat: Tensor) -> Tensor:
    """Images (N, C, H, W) in [0, 1], greyed, with heat (N, H, W) in [0, 1] laid over them from blue to red: (N, 3, H, W)."""
    h = heat.detach().float().cpu()
    colours = torch.stack([(1.5 - (4 * h - k).abs()).clamp(0, 1) for k in (3, 2, 1)], 1)  # the "jet" of heat maps
    return 0.5 * images.detach().float().cpu().mean(1, keepdim=True) + 0.5 * colours


def feature_maps(image: Tensor, maps: dict[str, Tensor], side: int = 48) -> np.ndarray:
    """A row a layer under the image (C, H, W): its name and its maps (K, h, w), each from its least (black) to its greatest.

    Maps are brought to `side` pixels, whole times where they are smaller.
    """
    rows = [("image", image.unsqueeze(0))] + [(name, layer.unsqueeze(1)) for name, layer in maps.items()]
    left, top, font = 110, side + 4, ImageFont.load_default(12)
    most = max(len(layer) for _, layer in rows)
    sheet = Image.new("RGB", (left + most * (side + 3), len(rows) * top), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (name, layer) in enumerate(rows):
        shape = "x".join(map(str, layer.shape[-2:]))
        draw.text((4, row * top + 6), f"{name[-16:]}\n{shape}", (0, 0, 0), font)
        shown = F.interpolate(_stretched(layer), (side, side), mode="nearest-exact")
        for column, picture in enumerate(shown.expand(-1, 3, -1, -1).mul(255).byte().permute(0, 2, 3, 1).numpy()):
            sheet.paste(Image.fromarray(picture), (left + column * (side + 3), row * top))
    return np.asarray(sheet)


def map_tile(maps: Tensor, side: int = 48) -> np.ndarray:
    """One layer's maps (K, h, w) as a square grid, each stretched from black to white and enlarged to about `side` pixels."""
    return grid(_stretched(maps.unsqueeze(1)), scale=max(1, side // maps.shape[-1]))


def _stretched(images: Tensor) -> Tensor:
    """Images (N, C, H, W), any numbers, each from its least (0) to its greatest (1)."""
    values = images.detach().float().cpu()
    low, high = values.amin((1, 2, 3), keepdim=True), values.amax((1, 2, 3), keepdim=True)
    return (values - low) / (high - low).clamp_min(1e-12)


def confusion(counts: Tensor, names: Sequence[str]) -> np.ndarray:
    """Counts (true, said): a row a true class, a column an answer, shaded by the row's shares; 20 classes with numbers."""
    n = len(names)
    numbered, font = n <= 20, ImageFont.load_default(11)
    cell = 44 if numbered else max(14, 700 // n) if n <= 100 else max(1, 1400 // n)
    named = cell >= 14
    margin = 4 + math.ceil(max(font.getlength(name) for name in names)) if named else 4
    shares = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    shade = (255 * (1 - shares.sqrt())).round().byte().numpy()  # the root: a few mistakes must be seen
    sheet = Image.new("L", (margin + n * cell, margin + n * cell), 255)
    sheet.paste(Image.fromarray(shade).resize((n * cell, n * cell), Image.Resampling.NEAREST), (margin, margin))
    draw = ImageDraw.Draw(sheet)
    for i, name in enumerate(names if named else ()):
        middle = margin + (i + 0.5) * cell
        draw.text((margin - 3, middle), name, 0, font, anchor="rm")
        label = Image.new("L", (margin, 14), 255)
        ImageDraw.Draw(label).text((2, 7), name, 0, font, anchor="lm")
        upright = label.rotate(90, expand=True)
        sheet.paste(upright, (round(middle) - 7, margin - upright.height))
        for j in range(n if numbered else 0):
            ink = 255 if shade[i, j] < 128 else 0
            draw.text((margin + (j + 0.5) * cell, middle), str(int(counts[i, j])), ink, font, anchor="mm")
    return np.asarray(sheet)


def save_png(picture: np.ndarray, path: Path) -> None:
    """Write `picture` as PNG, making the folder where it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def save_gif(frames: Sequence[np.ndarray | Path], path: Path, seconds: float = 8.0, most: int = 120) -> None:
    """An endless GIF of `frames`, pictures or their files, in order: at most `most`, evenly chosen, the last held a while."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gif(frames, seconds, most))


def gif(frames: Sequence[np.ndarray | Path], seconds: float = 8.0, most: int = 120) -> bytes:
    """What `save_gif` writes."""
    chosen = [frames[round(i)] for i in np.linspace(0, len(frames) - 1, min(most, len(frames)))]
    opened = [Image.open(frame) if isinstance(frame, Path) else Image.fromarray(frame) for frame in chosen]
    pictures = [picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=64) for picture in opened]
    duration = [max(40, round(1000 * seconds / len(pictures)))] * len(pictures)
    duration[-1] += 1500
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0)
    return buffer.getvalue()
