"""Canvases of a model that draws step by step, as frames of a GIF and as strips.

Every picture is uint8 (H, W, 3).
"""

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from src.viz.captions import Color, add_title
from src.viz.grids import enlarge, grid

COLORS = {"read": (0, 170, 0), "write": (220, 0, 0)}
COLUMNS = 16  # steps in a strip
FAR = 1e4  # pixels; PIL takes a second for the border of a window of a diverging run
TARGET = (0, 90, 220)  # frame of the image that is reconstructed


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


def captioned_frames(canvases: Canvases, title: str, scale: int = 4) -> list[np.ndarray]:
    """Draw `canvas_frames` with a title, the number of the step and a legend of the windows."""
    frames = canvas_frames(canvases, scale)
    last = len(frames) - 1
    rows = "" if canvases.images is None else " (above: the target)"
    return [
        add_title(frame, f"{title}\nstep {t} of {last}{rows}", legend=_legend(canvases))
        for t, frame in enumerate(frames)
    ]


def captioned_strip(canvases: Canvases, title: str, scale: int = 2) -> np.ndarray:
    """Draw a `canvas_strip` with a title, the number of each step, and a legend of the windows."""
    steps = [str(step) for step in _shown_steps(canvases, COLUMNS)]
    headers = [f"step {steps[0]}", *steps[1:], *(["target"] if canvases.images is not None else [])]
    return add_title(canvas_strip(canvases, scale), title, headers, _legend(canvases))


def _legend(canvases: Canvases) -> dict[str, Color]:
    return {f"{name} window": COLORS[name] for name in canvases.windows}


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
    canvases: Canvases, scale: int = 2, max_images: int = 8, columns: int = COLUMNS
) -> np.ndarray:
    """Draw a row per image: its canvas from blank to the last.

    Args:
        canvases: see `Canvases`.
        scale: size of each pixel.
        max_images: number of rows.
        columns: number of steps, evenly spaced. The image itself, in a blue frame, follows a
            reconstruction.
    """
    painted = _painted(canvases, scale)[:, :max_images]
    steps = _shown_steps(canvases, columns)
    rows = painted[steps].transpose(0, 1)  # (n, columns, 3, H, W)
    if canvases.images is not None:
        targets = _framed(enlarge(canvases.images[:max_images], scale), scale)
        rows = torch.cat([rows, targets.unsqueeze(1)], dim=1)
    return grid(rows.flatten(0, 1), columns=rows.shape[1])


def _shown_steps(canvases: Canvases, columns: int) -> list[int]:
    """Return the numbers of up to `columns` steps, evenly spaced from the first to the last."""
    n = len(canvases.frames)
    return [int(step) for step in np.linspace(0, n - 1, min(columns, n)).round()]


def _framed(images: Tensor, width: int) -> Tensor:
    """Return images (n, 3, H, W) with a frame of `width` pixels inside their edges."""
    framed = torch.tensor(TARGET).view(3, 1, 1).expand_as(images) / 255
    inside = (..., slice(width, -width), slice(width, -width))
    framed = framed.clone()
    framed[inside] = images[inside]
    return framed


def _painted(canvases: Canvases, scale: int) -> Tensor:
    """Return frames (T + 1, n, 3, H * scale, W * scale) in [0, 1] with windows drawn on them."""
    frames = enlarge(canvases.frames.flatten(0, 1), scale).unflatten(0, canvases.frames.shape[:2])
    for t in range(1, len(frames)):
        for i in range(frames.shape[1]):
            picture = Image.fromarray((frames[t, i] * 255).round().byte().permute(1, 2, 0).numpy())
            draw = ImageDraw.Draw(picture)
            for name, windows in canvases.windows.items():
                window = windows[t - 1, i].float().clamp(-FAR, FAR)
                if window.isnan().any():
                    continue
                *corners, sigma = window.tolist()
                top, left, bottom, right = ((corner + 0.5) * scale for corner in corners)
                border = round(min(max(sigma * scale / 2, 1), scale * 2))
                draw.rectangle([left, top, right, bottom], outline=COLORS[name], width=border)
            frames[t, i] = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    return frames
