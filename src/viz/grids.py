"""Tensors to pictures: grids, tiles and GIFs. `captions` adds words, `charts` has axes.

Every picture is uint8, (H, W) gray or (H, W, 3).
"""

import contextlib
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from src.core.files import write_or_remove

MAX_OPACITY = 0.65  # of a heat map


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
    return grid(filters, scale=max(1, tile_pixels // filters.shape[-1]))


def enlarge(images: Tensor, scale: int) -> Tensor:
    """Return images (N, C, H, W) in [0, 1] in color, on the CPU, each pixel scale x scale."""
    images = images.detach().float().cpu().clamp(0, 1).expand(-1, 3, -1, -1)
    return images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def overlay_heatmap(images: Tensor, heat: Tensor) -> Tensor:
    """Blend heat maps over gray images, from transparent (0) over blue and yellow to red (1).

    Args:
        images: (N, C, H, W) in [0, 1].
        heat: (N, H, W) in [0, 1].

    Returns:
        (N, 3, H, W) in [0, 1].
    """
    h = heat.detach().float().cpu()
    # the color map "jet", more opaque where there is more heat, so that the image stays visible
    colors = torch.stack([(1.5 - (4 * h - k).abs()).clamp(0, 1) for k in (3, 2, 1)], 1)
    opacity = MAX_OPACITY * h.unsqueeze(1)
    return (1 - opacity) * images.detach().float().cpu().mean(1, keepdim=True) + opacity * colors


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


def png(picture: np.ndarray) -> bytes:
    """Return the bytes of a PNG file: a little larger than necessary, in half of the time."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def save_png(picture: np.ndarray, path: Path) -> None:
    """Write a picture as PNG, and create its folder if needed."""
    write_or_remove(path, lambda file: file.write_bytes(png(picture)))


def save_picture(picture: np.ndarray, path: Path) -> None:
    """Write a picture in the format that the end of `path` names, one of `PICTURES`."""
    write_or_remove(path, lambda file: file.write_bytes(encoded(picture, path.suffix)))


def encoded(picture: np.ndarray, suffix: str) -> bytes:
    """Return the bytes of a picture file whose name ends in `suffix`, such as .jpg."""
    Image.init()
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, Image.registered_extensions()[suffix.lower()])
    return buffer.getvalue()


def save_gif(
    frames: Sequence[np.ndarray | Path], path: Path, seconds: float = 8.0, max_frames: int = 120
) -> None:
    """Write an endless GIF, see `gif`."""
    picture = gif(frames, seconds, max_frames)
    write_or_remove(path, lambda file: file.write_bytes(picture))


def gif(frames: Sequence[np.ndarray | Path], seconds: float = 8.0, max_frames: int = 120) -> bytes:
    """Return the bytes of an endless GIF, which holds its last frame a little longer.

    They are empty if all files are damaged.

    Args:
        frames: pictures or their files, in order; files that are damaged are left out.
        seconds: duration.
        max_frames: if there are more, some are chosen, evenly spaced.
    """
    chosen = [
        frames[round(i)] for i in np.linspace(0, len(frames) - 1, min(max_frames, len(frames)))
    ]
    pictures: list[Image.Image] = []
    # one file at a time is open; the bar appears on a terminal if this takes longer than a second
    for frame in tqdm(chosen, desc="GIF", unit="frame", disable=None, leave=False, delay=1):
        with contextlib.suppress(OSError, SyntaxError):  # a power failure can damage a file
            picture = Image.open(frame) if isinstance(frame, Path) else Image.fromarray(frame)
            pictures.append(picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=64))
    if not pictures:
        return b""
    duration = [max(40, round(1000 * seconds / len(pictures)))] * len(pictures)
    duration[-1] += 1500
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0
    )
    return buffer.getvalue()
