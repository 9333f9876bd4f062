"""What is done to pixels before a model sees them: pure functions on batches (B, C, H, W)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """uint8 in 0..255 -> float32 in [0, 1]."""
    return images.to(torch.float32).div_(255)


def to_bytes(images: Tensor) -> Tensor:
    """float in [0, 1] -> uint8 in 0..255, the nearest."""
    return images.clamp(0, 1).mul(255).round().byte()


def binarized(images: Tensor, noise: torch.Generator) -> Tensor:
    """Each pixel 1 with the probability of its value in [0, 1], else 0."""
    return torch.bernoulli(images, generator=noise)


def resized(pixels: Tensor, size: tuple[int, int], channels: int) -> Tensor:
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


def permuted(images: Tensor, order: Tensor) -> Tensor:
    """Each image's pixels in another order, its channels alike: pixel i is `order[i]` of the image, (H * W,)."""
    return images.flatten(2)[:, :, order.to(images.device)].view_as(images)


def same_order(ours: Tensor | None, theirs: Tensor | None) -> bool:
    """Do two runs permute pixels alike, or neither at all (None)?"""
    return theirs is None if ours is None else theirs is not None and torch.equal(ours, theirs)


def add_winter(images: Tensor) -> Tensor:
    """Return color images (B, 3, H, W) in [0, 1], sides above 6, as in fog after snow.

    No map of single pixels can make it, since neighbors decide:
    - Fog: a Gaussian blur with a standard deviation of 2 pixels, the border mirrored, that also
      takes a quarter of the color.
    - Snow: a relief that brightens what faces up and darkens what faces down, by half the
      difference between the mean luma (ITU-R 601) of the three rows above a pixel and of the
      three rows below it, the border repeated.
    """
    from torchvision.transforms.v2.functional import gaussian_blur  # slow to import

    foggy = gaussian_blur(images, [13, 13], [2.0, 2.0])
    luma = (foggy * images.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    rows = F.pad(luma, (0, 0, 3, 3), mode="replicate")
    means = F.avg_pool2d(rows, (3, 1), stride=1)  # of each three rows
    relief = 0.5 * (means[:, :, :-4] - means[:, :, 4:])
    return (0.75 * foggy + 0.25 * luma + relief).clamp(0, 1)


def scattered(images: Tensor, size: tuple[int, int], noise: torch.Generator) -> Tensor:
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
