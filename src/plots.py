"""Tensors to pictures: grids, filter tiles, GIFs. Knows no model; every picture is uint8, (H, W) grey or (H, W, 3)."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


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


def save_png(picture: np.ndarray, path: Path) -> None:
    """Write `picture` as PNG, making the folder where it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def save_gif(frames: Sequence[Path], path: Path, seconds: float = 8.0, most: int = 120) -> None:
    """An endless GIF of the pictures at `frames`, in order: at most `most`, evenly chosen, the last held a while."""
    chosen = [frames[round(i)] for i in np.linspace(0, len(frames) - 1, min(most, len(frames)))]
    pictures = [Image.open(frame).convert("P", palette=Image.Palette.ADAPTIVE, colors=64) for frame in chosen]
    duration = [max(40, round(1000 * seconds / len(pictures)))] * len(pictures)
    duration[-1] += 1500
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration, loop=0)
