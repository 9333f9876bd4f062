"""Tensors to pictures: grids, tiles, canvases, GIFs; `charts` has those with words. Knows no model.

Every picture is uint8, (H, W) grey or (H, W, 3).
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from src.core.files import write_or_remove

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
    sheet = torch.full(
        (rows * cell_h + gap, columns * cell_w + gap, pixels.shape[1]), 255, dtype=torch.uint8
    )
    for i, picture in enumerate(pixels):
        top, left = gap + i // columns * cell_h, gap + i % columns * cell_w
        sheet[top : top + height * scale, left : left + width * scale] = picture.permute(1, 2, 0)
    return sheet.squeeze(2).numpy()


def filter_tile(weight: Tensor, max_filters: int = 64, tile_pixels: int = 24) -> np.ndarray:
    """The filters of a convolution, weight (out, in, h, w), as a grid: black the least weight of the layer, white the greatest.

    Three input channels show in colour, one in grey, more as the filters' first input channel. At most `max_filters`
    filters, each
    enlarged to about `tile_pixels` pixels.
    """
    filters = weight.detach().float().cpu()
    filters = filters if filters.shape[1] in (1, 3) else filters[:, :1]
    low, high = filters.min(), filters.max()
    filters = (filters[:max_filters] - low) / (high - low).clamp_min(1e-12)
    return grid(filters, scale=max(1, tile_pixels // filters.shape[-1]), gap=1)


def canvas_frames(canvases: Canvases, scale: int = 4) -> list[np.ndarray]:
    """A picture for each step: a grid of all canvases with their windows, green for reading, red for writing.

    A window's border is as wide as its filters' sigma: thin is sharp. Above each reconstruction stands its image.
    """
    painted = _painted(canvases, scale)  # (T + 1, n, 3, H, W)
    if canvases.images is None:
        return [grid(frame) for frame in painted]
    columns = min(painted.shape[1], 8)
    empty = painted.new_ones(-painted.shape[1] % columns, *painted.shape[2:])  # fills the last row
    images = torch.cat([enlarge(canvases.images, scale), empty]).split(columns)
    pages = []
    for frame in painted:
        pairs = zip(images, torch.cat([frame, empty]).split(columns), strict=True)
        pages.append(grid(torch.cat([row for pair in pairs for row in pair]), columns))
    return pages


def canvas_strip(
    canvases: Canvases, scale: int = 2, max_images: int = 8, columns: int = 16
) -> np.ndarray:
    """A row an image, at most `max_images`: its canvas from blank to the last, at most `columns` steps evenly chosen, and
    behind a
    reconstruction the image itself."""
    painted = _painted(canvases, scale)[:, :max_images]
    steps = np.linspace(0, len(painted) - 1, min(columns, len(painted))).round()
    rows = painted[torch.tensor(steps).long()].transpose(0, 1)  # (n, columns, 3, H, W)
    if canvases.images is not None:
        rows = torch.cat([rows, enlarge(canvases.images[:max_images], scale).unsqueeze(1)], dim=1)
    return grid(rows.flatten(0, 1), columns=rows.shape[1])


def _painted(canvases: Canvases, scale: int) -> Tensor:
    """(T + 1, n, 3, H * scale, W * scale) in [0, 1] with the windows drawn on."""
    frames = enlarge(canvases.frames.flatten(0, 1), scale).unflatten(0, canvases.frames.shape[:2])
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


def enlarge(images: Tensor, scale: int) -> Tensor:
    """Images (N, C, H, W) in [0, 1] on the CPU in colour, each pixel scale x scale."""
    images = images.detach().float().cpu().clamp(0, 1).expand(-1, 3, -1, -1)
    return images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def overlay_heatmap(images: Tensor, heat: Tensor) -> Tensor:
    """Images (N, C, H, W) in [0, 1], greyed, with heat (N, H, W) in [0, 1] laid over them from blue to red: (N, 3, H, W)."""
    h = heat.detach().float().cpu()
    colours = torch.stack(
        [(1.5 - (4 * h - k).abs()).clamp(0, 1) for k in (3, 2, 1)], 1
    )  # the "jet" of heat maps
    return 0.5 * images.detach().float().cpu().mean(1, keepdim=True) + 0.5 * colours


def map_tile(maps: Tensor, tile_pixels: int = 48) -> np.ndarray:
    """One layer's maps (K, h, w) as a square grid, each stretch_contrast from black to white and enlarged to about
    `tile_pixels`
    pixels."""
    return grid(stretch_contrast(maps.unsqueeze(1)), scale=max(1, tile_pixels // maps.shape[-1]))


def stretch_contrast(images: Tensor) -> Tensor:
    """Images (N, C, H, W), any numbers, each from its least (0) to its greatest (1)."""
    values = images.detach().float().cpu()
    low, high = values.amin((1, 2, 3), keepdim=True), values.amax((1, 2, 3), keepdim=True)
    return (values - low) / (high - low).clamp_min(1e-12)


def save_png(picture: np.ndarray, path: Path) -> None:
    """Write `picture` as PNG, making the folder where it is not there."""
    write_or_remove(path, Image.fromarray(picture).save)


def save_gif(
    frames: Sequence[np.ndarray | Path], path: Path, seconds: float = 8.0, max_frames: int = 120
) -> None:
    """An endless GIF of `frames`, pictures or their files, in order: at most `max_frames`, evenly chosen, the last held a
    while."""
    picture = gif(frames, seconds, max_frames)
    write_or_remove(path, lambda file: file.write_bytes(picture))


def gif(frames: Sequence[np.ndarray | Path], seconds: float = 8.0, max_frames: int = 120) -> bytes:
    """What `save_gif` writes."""
    chosen = [
        frames[round(i)] for i in np.linspace(0, len(frames) - 1, min(max_frames, len(frames)))
    ]
    opened = [
        Image.open(frame) if isinstance(frame, Path) else Image.fromarray(frame) for frame in chosen
    ]
    pictures = [
        picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=64) for picture in opened
    ]
    duration = [max(40, round(1000 * seconds / len(pictures)))] * len(pictures)
    duration[-1] += 1500
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0
    )
    return buffer.getvalue()
