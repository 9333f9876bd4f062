"""Tensors to pictures: grids, tiles, canvases and GIFs. `charts` has those with text.

Every picture is uint8, (H, W) gray or (H, W, 3).
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

COLORS = {"read": (0, 170, 0), "write": (220, 0, 0)}


class Canvases(NamedTuple):
    """Images as they are drawn step by step.

    Attributes:
        frames: (T + 1, n, C, H, W) in [0, 1], the blank canvas first.
        windows: `read` or `write` -> (T, n, 5): top, left, bottom and right of the window and its
            sigma, in pixels from the center of the top left pixel. Windows t were used to make
            frame t + 1. Empty for a model without windows.
        images: the images (n, C, H, W) that are reconstructed; None for samples.
    """

    frames: Tensor
    windows: dict[str, Tensor]
    images: Tensor | None = None


def grid(images: Tensor, columns: int | None = None, scale: int = 1, gap: int = 2) -> np.ndarray:
    """Draw images in rows on a white sheet.

    Args:
        images: (N, C, H, W) in [0, 1], C 1 or 3.
        columns: images per row; None: a square grid.
        scale: size of each pixel.
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
    """Draw the filters of a convolution as a grid, the smallest weight black, the largest white.

    Filters with three input channels are drawn in color, with one in gray; of others, the first
    input channel is drawn.

    Args:
        weight: (out, in, h, w).
        max_filters: number of filters to draw.
        tile_pixels: each filter is enlarged to about this many pixels.
    """
    filters = weight.detach().float().cpu()
    filters = filters if filters.shape[1] in (1, 3) else filters[:, :1]
    low, high = filters.min(), filters.max()
    filters = (filters[:max_filters] - low) / (high - low).clamp_min(1e-12)
    return grid(filters, scale=max(1, tile_pixels // filters.shape[-1]), gap=1)


def canvas_frames(canvases: Canvases, scale: int = 4) -> list[np.ndarray]:
    """Draw a grid of all canvases for each step, with reading windows green, writing ones red.

    The border of a window is as wide as the sigma of its filters, so a thin border means sharp.
    Above each reconstruction is its image.
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
    """Draw a row per image: its canvas from blank to the last.

    Args:
        canvases: see `Canvases`.
        scale: size of each pixel.
        max_images: number of rows.
        columns: number of steps, evenly spaced. The image itself follows a reconstruction.
    """
    painted = _painted(canvases, scale)[:, :max_images]
    steps = np.linspace(0, len(painted) - 1, min(columns, len(painted))).round()
    rows = painted[torch.tensor(steps).long()].transpose(0, 1)  # (n, columns, 3, H, W)
    if canvases.images is not None:
        rows = torch.cat([rows, enlarge(canvases.images[:max_images], scale).unsqueeze(1)], dim=1)
    return grid(rows.flatten(0, 1), columns=rows.shape[1])


def _painted(canvases: Canvases, scale: int) -> Tensor:
    """Return frames (T + 1, n, 3, H * scale, W * scale) in [0, 1] with windows drawn on them."""
    frames = enlarge(canvases.frames.flatten(0, 1), scale).unflatten(0, canvases.frames.shape[:2])
    for t in range(1, len(frames)):
        for i in range(frames.shape[1]):
            picture = Image.fromarray((frames[t, i] * 255).round().byte().permute(1, 2, 0).numpy())
            draw = ImageDraw.Draw(picture)
            for name, windows in canvases.windows.items():
                *corners, sigma = windows[t - 1, i].float().tolist()
                top, left, bottom, right = ((corner + 0.5) * scale for corner in corners)
                border = round(min(max(sigma * scale / 2, 1), scale * 2))
                draw.rectangle([left, top, right, bottom], outline=COLORS[name], width=border)
            frames[t, i] = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    return frames


def enlarge(images: Tensor, scale: int) -> Tensor:
    """Return images (N, C, H, W) in [0, 1] in color, on the CPU, each pixel scale x scale."""
    images = images.detach().float().cpu().clamp(0, 1).expand(-1, 3, -1, -1)
    return images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def overlay_heatmap(images: Tensor, heat: Tensor) -> Tensor:
    """Blend heat maps over gray images, from blue (0) to red (1).

    Args:
        images: (N, C, H, W) in [0, 1].
        heat: (N, H, W) in [0, 1].

    Returns:
        (N, 3, H, W) in [0, 1].
    """
    h = heat.detach().float().cpu()
    # the color map "jet"
    colors = torch.stack([(1.5 - (4 * h - k).abs()).clamp(0, 1) for k in (3, 2, 1)], 1)
    return 0.5 * images.detach().float().cpu().mean(1, keepdim=True) + 0.5 * colors


def map_tile(maps: Tensor, tile_pixels: int = 48) -> np.ndarray:
    """Draw the maps (K, h, w) of a layer as a square grid, each from black to white.

    Args:
        maps: (K, h, w).
        tile_pixels: each map is enlarged to about this many pixels.
    """
    return grid(stretch_contrast(maps.unsqueeze(1)), scale=max(1, tile_pixels // maps.shape[-1]))


def stretch_contrast(images: Tensor) -> Tensor:
    """Scale each image (N, C, H, W) so that its smallest value is 0 and its largest is 1."""
    values = images.detach().float().cpu()
    low, high = values.amin((1, 2, 3), keepdim=True), values.amax((1, 2, 3), keepdim=True)
    return (values - low) / (high - low).clamp_min(1e-12)


def save_png(picture: np.ndarray, path: Path) -> None:
    """Write a picture as PNG, and create its folder if needed."""
    write_or_remove(path, Image.fromarray(picture).save)


def save_gif(
    frames: Sequence[np.ndarray | Path], path: Path, seconds: float = 8.0, max_frames: int = 120
) -> None:
    """Write an endless GIF, see `gif`."""
    picture = gif(frames, seconds, max_frames)
    write_or_remove(path, lambda file: file.write_bytes(picture))


def gif(frames: Sequence[np.ndarray | Path], seconds: float = 8.0, max_frames: int = 120) -> bytes:
    """Return the bytes of an endless GIF, which holds its last frame a little longer.

    Args:
        frames: pictures or their files, in order.
        seconds: duration.
        max_frames: if there are more, some are chosen, evenly spaced.
    """
    chosen = [
        frames[round(i)] for i in np.linspace(0, len(frames) - 1, min(max_frames, len(frames)))
    ]
    pictures: list[Image.Image] = []
    for frame in chosen:  # one file at a time is open
        picture = Image.open(frame) if isinstance(frame, Path) else Image.fromarray(frame)
        pictures.append(picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=64))
    duration = [max(40, round(1000 * seconds / len(pictures)))] * len(pictures)
    duration[-1] += 1500
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0
    )
    return buffer.getvalue()
