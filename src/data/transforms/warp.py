"""One affine map per image, sampled once: where each pixel comes from, and what lies beyond the border."""

import torch
import torch.nn.functional as F
from torch import Tensor

BORDERS = ("constant", "edge", "reflect", "symmetric", "wrap")
INTERPOLATIONS = ("bilinear", "nearest")
STEPS = (
    2.0**16
)  # places are rounded to 1 / STEPS of a pixel: whole ones, and those of quarter turns, are whole exactly
IN_CACHE = (
    2**18
)  # pixels whose places a processor's cache holds: larger batches go in parts, at half the cost


def warp(
    images: Tensor,
    maps: Tensor,
    border: str = "constant",
    interpolation: str = "bilinear",
    fill: float = 0.0,
) -> Tensor:
    """Each image as its map shows it.

    Args:
        images: (B, C, H, W) float.
        maps: (B, 2, 3), from a pixel's place in the result to its place in the source, both as (x, y, 1) in pixels about the
            image's middle, y downwards.
        border: what lies beyond the source, one of `BORDERS`, with numpy.pad's meaning at any distance.
        interpolation: `bilinear` or `nearest`; of halves the larger place.
        fill: the value of `constant`.

    Returns:
        (B, C, H, W): a source pixel itself, bit for bit, wherever a place is whole.
    """
    b, _, height, width = images.shape
    part = max(1, IN_CACHE // (height * width))
    if images.device.type == "cpu" and b > part:
        parts = zip(images.split(part), maps.split(part), strict=True)
        return torch.cat(
            [warp(some, of_some, border, interpolation, fill) for some, of_some in parts]
        )
    first = (
        1 if border == "constant" and fill else 0
    )  # a row and a column of `fill` before the image
    last = 1 if border == "wrap" or first else 0  # and one behind it
    # grid_sample wants places from -1 to 1; between them 2 ** k steps lose nothing
    padded = [1 + 2 ** (first + side + last - 2).bit_length() for side in (height, width)]
    sheet = images.new_full((*images.shape[:2], *padded), fill)
    sheet[:, :, first : first + height, first : first + width] = images
    if border == "wrap":
        sheet[:, :, height, :width] = images[:, :, 0]
        sheet[:, :, : height + 1, width] = sheet[:, :, : height + 1, 0]
    wide = torch.float32 if images.device.type == "mps" else torch.float64  # Metal has no float64
    maps = maps.to(images.device, wide)
    grid = torch.empty(b, height, width, 2, device=images.device, dtype=images.dtype)
    for axis, side in enumerate((width, height)):
        step = 2 / (padded[1 - axis] - 1)
        grid[..., axis] = (
            _folded(_places(maps, axis, height, width, interpolation), side, border)
            .add_(first - 1 / step)
            .mul_(step)
        )
    return F.grid_sample(sheet, grid, mode=interpolation, padding_mode="zeros", align_corners=True)


def _places(maps: Tensor, axis: int, height: int, width: int, interpolation: str) -> Tensor:
    """Where each pixel of the result comes from along an axis, 0 for x: (B, H, W) in pixels from the first."""
    a, b, c = maps[:, axis].view(-1, 3, 1, 1).unbind(1)
    columns = torch.arange(width, device=maps.device, dtype=maps.dtype) - (width - 1) / 2
    rows = torch.arange(height, device=maps.device, dtype=maps.dtype).view(-1, 1) - (height - 1) / 2
    places = STEPS * (a * columns + (c + ((width, height)[axis] - 1) / 2)) + STEPS * b * rows
    places.round_()
    return (
        places.div_(STEPS).add_(0.5).floor_() if interpolation == "nearest" else places.div_(STEPS)
    )


def _folded(places: Tensor, n: int, border: str) -> Tensor:
    """Places of any size -> the place among the n pixels, or between two, where the same is to be seen."""
    if border == "constant":
        return places.clamp_(-1, n)
    if border == "edge" or n == 1:
        return places.clamp_(0, n - 1)
    if border == "wrap":
        return places.sub_((places / n).floor_(), alpha=n)
    if border == "reflect":
        return places.sub_((places / (2 * (n - 1))).round_(), alpha=2 * (n - 1)).abs_()
    places.add_(0.5)  # symmetric: mirrored about half a pixel before the first
    return places.sub_((places / (2 * n)).round_(), alpha=2 * n).abs_().sub_(0.5).clamp_(0, n - 1)
