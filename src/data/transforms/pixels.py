"""What is done to pixels before a model sees them: pure functions on batches (B, C, H, W)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """uint8 in 0..255 -> float32 in [0, 1]."""
    return images.to(torch.float32).div_(255)


def to_uint8(images: Tensor) -> Tensor:
    """float in [0, 1] -> uint8 in 0..255, the nearest."""
    return images.clamp(0, 1).mul(255).round().byte()


def binarize(images: Tensor, noise: torch.Generator) -> Tensor:
    """Each pixel 1 with the probability of its value in [0, 1], else 0."""
    return torch.bernoulli(images, generator=noise)


def resize(pixels: Tensor, size: tuple[int, int], channels: int) -> Tensor:
    """(N, C, H, W) uint8 at `size`, height and width, with `channels` channels; as they are where they fit already."""
    if pixels.shape[1] == 3 and channels == 1:
        luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        pixels = torch.cat(
            [(p * luma).sum(1, keepdim=True).round().byte() for p in pixels.split(1000)]
        )
    elif pixels.shape[1] == 1 and channels == 3:
        pixels = pixels.expand(-1, 3, -1, -1)
    if tuple(pixels.shape[-2:]) != size:
        parts = [
            F.interpolate(p.float(), size, mode="bilinear", antialias=True)
            .round()
            .clamp(0, 255)
            .byte()
            for p in pixels.split(1000)
        ]
        pixels = torch.cat(parts) if parts else pixels.new_empty(0, channels, *size)
    return pixels.contiguous()


def permute_pixels(images: Tensor, order: Tensor) -> Tensor:
    """Each image's pixels in another order, its channels alike: pixel i is `order[i]` of the image, (H * W,)."""
    return images.flatten(2)[:, :, order.to(images.device)].view_as(images)


def same_order(ours: Tensor | None, theirs: Tensor | None) -> bool:
    """Do two runs permute pixels alike, or neither at all (None)?"""
    return theirs is None if ours is None else theirs is not None and torch.equal(ours, theirs)


def add_winter(images: Tensor) -> Tensor:
    """Return color images (B, 3, H, W) in [0, 1] as if snow had fallen, which no map of single pixels can tell.

    Snow lies under an edge, on whatever is darker than the four rows above it, so that neighbors decide where it is white:
    its share of a pixel is 0.8 / (1 + exp(-40 * (d - 0.03))), d the luma (ITU-R 601) of those rows less the pixel's own, both
    smoothed by (1, 2, 1) / 4 each way, the border repeated. Everything else becomes greyer and colder.
    """
    luma = (images * images.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    soft = F.pad(luma, (1, 1, 1, 1), mode="replicate")
    soft = (soft[:, :, :-2] + 2 * soft[:, :, 1:-1] + soft[:, :, 2:]) / 4
    soft = (soft[..., :-2] + 2 * soft[..., 1:-1] + soft[..., 2:]) / 4
    height = soft.shape[2]
    rows = F.pad(soft, (0, 0, 4, 0), mode="replicate")
    above = torch.stack([rows[:, :, k : k + height] for k in range(4)]).mean(0)
    snow = 0.8 * torch.sigmoid(40 * (above - soft - 0.03))
    cold = images.new_tensor([0.8, 0.9, 1.0]).view(3, 1, 1)
    ground = 0.9 * (0.75 * images + 0.25 * luma) + 0.1 * cold
    return torch.lerp(ground, images.new_tensor([0.93, 0.96, 1.0]).view(3, 1, 1), snow)


def place_randomly(images: Tensor, size: tuple[int, int], noise: torch.Generator) -> Tensor:
    """Each image at a place of its own on a black sheet, drawn uniformly among those that hold it whole.

    Args:
        images: (B, C, h, w) in [0, 1].
        size: (H, W) of the sheet, at least (h, w).
        noise: on the images' device.

    Returns:
        (B, C, H, W).
    """
    b, _, h, w = images.shape
    index = []
    for side, room in zip((h, w), size, strict=True):
        start = torch.randint(room - side + 1, (b, 1), generator=noise, device=images.device)
        place = (
            torch.arange(room, device=images.device) - start
        )  # (B, H or W): the image's row or column at each of the sheet
        index.append((place + 1).clamp(0, side + 1))  # 0 and side + 1: its black border
    y, x = index
    bordered = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    return bordered[
        torch.arange(b, device=images.device).view(b, 1, 1), y.unsqueeze(2), x.unsqueeze(1)
    ].permute(0, 3, 1, 2)
