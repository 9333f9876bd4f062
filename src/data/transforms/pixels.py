"""Pure functions on the pixels of a batch (B, C, H, W)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from src.core.transfer import to_device

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue (ITU-R BT.601)


def binarize(images: Tensor, noise: torch.Generator) -> Tensor:
    """Draw each pixel: 1 with the probability of its value in [0, 1], else 0."""
    return torch.bernoulli(images, generator=noise)


def resize(
    pixels: Tensor,
    size: tuple[int, int],
    channels: int,
    crop: float = 1.0,
    interpolation: str = "bilinear",
) -> Tensor:
    """Bring images to a size and number of channels, as `src.data.decode` does with files.

    The largest part that has the aspect ratio of `size` is scaled.

    Args:
        pixels: (N, C, H, W) uint8, C 1 or 3.
        size: new height and width.
        channels: 1 or 3. Color becomes gray by its luma, gray becomes color by repetition.
        crop: part of the largest possible height and width that is kept, from the center.
        interpolation: bilinear or bicubic, with antialiasing.

    Returns:
        (N, channels, *size) uint8; the images themselves where nothing changes.
    """
    if pixels.shape[1] == 3 and channels == 1:
        luma = torch.tensor(LUMA).view(1, 3, 1, 1)
        parts = [(p * luma).sum(1, keepdim=True).round().byte() for p in pixels.split(1000)]
        pixels = torch.cat(parts)
    elif pixels.shape[1] == 1 and channels == 3:
        pixels = pixels.expand(-1, 3, -1, -1)
    if tuple(pixels.shape[-2:]) != size or crop != 1:
        h, w = pixels.shape[-2:]
        kept = (crop * min(h, w * size[0] / size[1]), crop * min(w, h * size[1] / size[0]))
        top, left = (
            min(round((side - part) / 2), (side - 1) // 2)
            for side, part in zip((h, w), kept, strict=True)
        )
        pixels = pixels[..., top : h - top, left : w - left]
        scaled = [
            F.interpolate(p.float(), size, mode=interpolation, antialias=True)
            for p in pixels.split(1000)
        ]
        pixels = torch.cat([p.round().clamp(0, 255).byte() for p in scaled])
    return pixels.contiguous()


def permute_pixels(images: Tensor, order: Tensor) -> Tensor:
    """Reorder the pixels of each image, all channels alike.

    Args:
        images: (B, C, H, W).
        order: (H * W,); new pixel i is old pixel order[i].
    """
    return images.flatten(2)[:, :, to_device(order, images.device)].view_as(images)


def same_order(first: Tensor | None, second: Tensor | None) -> bool:
    """Return whether two pixel orders are equal; None is the original order."""
    if first is None or second is None:
        return first is None and second is None
    return torch.equal(first, second)


def add_winter(images: Tensor) -> Tensor:
    """Return color images (B, 3, H, W) in [0, 1], sides above 6, as in fog after snow.

    It depends on neighbors, so no per-pixel map can compute it:
    - Fog: a Gaussian blur with a standard deviation of 2 pixels, the border mirrored, that also
      takes a quarter of the color.
    - Snow: a relief that brightens what faces up and darkens what faces down, by half the
      difference between the mean luma (ITU-R 601) of the three rows above a pixel and of the
      three rows below it, the border repeated.
    """
    from torchvision.transforms.v2.functional import gaussian_blur  # slow to import

    foggy = gaussian_blur(images, [13, 13], [2.0, 2.0])
    luma = (foggy * images.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    rows = F.pad(luma, (0, 0, 3, 3), mode="replicate")
    means = F.avg_pool2d(rows, (3, 1), stride=1)  # of each three rows
    relief = 0.5 * (means[:, :, :-4] - means[:, :, 4:])
    return (0.75 * foggy + 0.25 * luma + relief).clamp(0, 1)


def place_randomly(images: Tensor, size: tuple[int, int], noise: torch.Generator) -> Tensor:
    """Place each image on a larger black image, uniformly among the places where it fits.

    Args:
        images: (B, C, h, w) in [0, 1].
        size: (H, W) of the larger image, at least (h, w).
        noise: on the images' device.

    Returns:
        (B, C, H, W) in [0, 1].
    """
    b, _, h, w = images.shape
    # Each pixel of the larger image looks up a row and a column of the image, which has a black
    # border of one pixel: rows 0 and h + 1, columns 0 and w + 1.
    lookups = []
    for side, full_side in zip((h, w), size, strict=True):
        start = torch.randint(full_side - side + 1, (b, 1), generator=noise, device=images.device)
        position = torch.arange(full_side, device=images.device) - start  # (B, H) or (B, W)
        lookups.append((position + 1).clamp(0, side + 1))
    rows, columns = lookups
    bordered = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    batch = torch.arange(b, device=images.device).view(b, 1, 1)
    return bordered[batch, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)
