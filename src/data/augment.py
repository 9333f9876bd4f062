"""Training images made other than they are: on whole batches, each image with a draw of its own.

Each function takes images (B, C, H, W) in [0, 1] and a generator on their device, and returns the same shape and range.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def flipped(images: Tensor, noise: torch.Generator, p: float = 0.5) -> Tensor:
    """Left to right with probability p."""
    chosen = torch.rand(len(images), 1, 1, 1, generator=noise, device=images.device) < p
    return torch.where(chosen, images.flip(3), images)


def shifted(images: Tensor, noise: torch.Generator, most: int = 4, border: str = "zeros") -> Tensor:
    """By whole pixels, -most to most each way: a random crop of the image padded by `most` (He 2015, section 4.2).

    Args:
        border: what comes in from outside, `zeros` or the image's own `reflect`ion about its edge pixels, which needs sides
            above `most`.
    """
    b, _, *sides = images.shape
    if border == "reflect" and most >= min(sides):
        raise ValueError(f"most={most}: an image of {sides[0]} x {sides[1]} reflects at most {min(sides) - 1} pixels")
    index, inside = [], []
    for side in sides:
        shift = torch.randint(-most, most + 1, (b, 1), generator=noise, device=images.device)
        place = torch.arange(side, device=images.device) + shift  # (B, H or W): the row or column that each is taken from
        inside.append((place >= 0) & (place < side))
        if border == "reflect":
            place = (side - 1) - ((side - 1) - place.abs()).abs()
        index.append(place.clamp(0, side - 1))
    (y, x), (y_in, x_in) = index, inside
    moved = images.permute(0, 2, 3, 1)[torch.arange(b, device=images.device).view(b, 1, 1), y.unsqueeze(2), x.unsqueeze(1)]
    if border == "zeros":
        moved = moved * (y_in.unsqueeze(2) & x_in.unsqueeze(1)).unsqueeze(3)
    return moved.permute(0, 3, 1, 2)


def warped(images: Tensor, noise: torch.Generator, degrees: float = 0.0, scale: float = 0.0, shift: float = 0.0) -> Tensor:
    """Turned, scaled and moved at once about the middle, bilinear, with zeros from outside.

    Args:
        degrees: -degrees to degrees, counter-clockwise.
        scale: by 1 / (1 + scale) to 1 + scale, alike in logarithm.
        shift: -shift to shift pixels each way.
    """
    b, _, height, width = images.shape
    draw = 2 * torch.rand(4, b, generator=noise, device=images.device) - 1  # in [-1, 1)
    angle, zoom = draw[0] * math.radians(degrees), torch.exp(-draw[1] * math.log1p(scale))
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    # grid_sample asks where each pixel comes from, with x and y from -1 to 1 over the image's width and height
    rows = [cos, -sin * height / width, draw[2] * shift * 2 / width, sin * width / height, cos, draw[3] * shift * 2 / height]
    grid = F.affine_grid(torch.stack(rows, 1).view(b, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
