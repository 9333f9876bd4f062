"""Resample images by one affine map per image, with a choice of borders and interpolation."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from src.core.transfer import to_device

Border = Literal["constant", "edge", "reflect", "symmetric", "wrap"]
Interpolation = Literal["bilinear", "nearest"]
BORDERS: tuple[Border, ...] = get_args(Border)
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)
# Coordinates are rounded to 1 / STEPS of a pixel. So whole pixels, and those of quarter turns, stay
# exact in spite of rounding errors.
STEPS = 2.0**16
# On a CPU, larger batches are processed in parts of this many pixels: their coordinates stay in the
# cache, which halves the time.
IN_CACHE = 2**18


def warp(
    images: Tensor,
    maps: Tensor,
    border: str = "constant",
    interpolation: str = "bilinear",
    fill: float = 0.0,
) -> Tensor:
    """Resample each image by its own affine map.

    Args:
        images: (B, C, H, W) float.
        maps: (B, 2, 3), from output to input coordinates. A coordinate is (x, y, 1) in pixels from
            the image center, with y pointing down.
        border: what lies outside the image, one of `Border`, with the meaning of numpy.pad's modes.
        interpolation: `bilinear` or `nearest`; a coordinate halfway between two pixels rounds up.
        fill: the value outside the image for the border `constant`.

    Returns:
        (B, C, H, W). At a coordinate that is a whole pixel, the result is that pixel bit for bit.
    """
    batch, _, height, width = images.shape
    part = max(1, IN_CACHE // (height * width))
    if images.device.type == "cpu" and batch > part:
        parts = zip(images.split(part), maps.split(part), strict=True)
        return torch.cat([warp(*pair, border, interpolation, fill) for pair in parts])
    # pad with a row and a column of `fill` before the image, and one more after it where needed
    before = 1 if border == "constant" and fill else 0
    after = 1 if border == "wrap" or before else 0
    # grid_sample takes coordinates in [-1, 1]; they stay exact where the padded side is 2^k + 1
    padded = [1 + 2 ** (before + side + after - 2).bit_length() for side in (height, width)]
    sheet = images.new_full((*images.shape[:2], *padded), fill)
    sheet[:, :, before : before + height, before : before + width] = images
    if border == "wrap":
        sheet[:, :, height, :width] = images[:, :, 0]
        sheet[:, :, : height + 1, width] = sheet[:, :, : height + 1, 0]
    # Metal, the GPU interface of Apple, has no float64
    precise = torch.float32 if images.device.type == "mps" else torch.float64
    maps = to_device(maps.to(precise), images.device)
    grid = torch.empty(batch, height, width, 2, device=images.device, dtype=images.dtype)
    for axis, side in enumerate((width, height)):
        step = 2 / (padded[1 - axis] - 1)
        coordinates = _input_coordinates(maps, axis, height, width, interpolation)
        inside = _apply_border(coordinates, side, border)
        grid[..., axis] = inside.add_(before - 1 / step).mul_(step)
    return F.grid_sample(sheet, grid, mode=interpolation, padding_mode="zeros", align_corners=True)


def _input_coordinates(
    maps: Tensor, axis: int, height: int, width: int, interpolation: str
) -> Tensor:
    """Return where each output pixel comes from along `axis` (0: x, 1: y).

    Args:
        maps: (B, 2, 3).

    Returns:
        (B, H, W), in pixels from the center of the first pixel; whole numbers for `nearest`.
    """
    a, b, c = maps[:, axis].view(-1, 3, 1, 1).unbind(1)
    columns = torch.arange(width, device=maps.device, dtype=maps.dtype) - (width - 1) / 2
    rows = torch.arange(height, device=maps.device, dtype=maps.dtype).view(-1, 1) - (height - 1) / 2
    center = ((width, height)[axis] - 1) / 2
    coordinates = STEPS * (a * columns + (c + center)) + STEPS * b * rows
    coordinates = coordinates.round_().div_(STEPS)
    return coordinates.add_(0.5).floor_() if interpolation == "nearest" else coordinates


def _apply_border(x: Tensor, n: int, border: str) -> Tensor:
    """Map coordinates `x` outside the n pixels to those inside that show the same; changes `x`."""
    if border == "constant":
        return x.clamp_(-1, n)  # grid_sample fades to zero, or to the padding, beyond the edge
    if border == "edge" or n == 1:
        return x.clamp_(0, n - 1)
    if border == "wrap":
        return _subtract_periods(x, (x / n).floor_(), n)
    if border == "reflect":  # mirrored at the center of the first and last pixel
        period = 2 * (n - 1)
        return _subtract_periods(x, (x / period).round_(), period).abs_()
    # symmetric: mirrored at the outer edge of the first and last pixel
    x.add_(0.5)
    period = 2 * n
    distance = _subtract_periods(x, (x / period).round_(), period).abs_()
    return distance.sub_(0.5).clamp_(0, n - 1)


def _subtract_periods(x: Tensor, count: Tensor, period: int) -> Tensor:
    """Return x - count * period, computed in place."""
    return x.sub_(count, alpha=period)
