"""Decoding of image files: any format, size and mode that Pillow reads, transparent or not, and HEIC by pillow-heif."""

import contextlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError
from torch import Tensor

from src.core.errors import UserError
from src.core.files import NO_HEIC, heic_readable, printable
from src.core.types import Color

WHITE = (255, 255, 255)


def decode(
    path: Path,
    size: tuple[int, int] | None,
    channels: int,
    background: tuple[int, int, int] = WHITE,
) -> Tensor:
    """One image file -> (C, H, W) uint8: upright by its EXIF, scaled to cover (height, width) and centre cropped.

    Args:
        path: the file.
        size: None for its own.
        channels: 1 or 3.
        background: red, green, blue from 0 to 255 behind what is transparent.

    Raises:
        UserError: it names the file; Pillow cannot read it whole.
    """
    try:
        upright = _upright(path, channels, background)
        array = np.asarray(
            upright
            if size is None
            else ImageOps.fit(upright, (size[1], size[0]), Image.Resampling.BILINEAR)
        )
    except Exception as error:  # Pillow's plugins raise whatever their decoder raises
        raise UserError(f"{printable(path)} is not a readable image ({_reason(error)})") from error
    return torch.from_numpy(array.copy()).view(*array.shape[:2], channels).permute(2, 0, 1)


def why_unreadable(path: Path) -> str | None:
    """Return why `decode` cannot read the file at `path`, None where it can; in about a quarter of its time for a JPEG."""
    try:
        _upright(path, 3, WHITE, draft=True)
    except Exception as error:  # as in `decode`
        return str(_reason(error))
    return None


def _upright(
    path: Path, channels: int, background: tuple[int, int, int], draft: bool = False
) -> Image.Image:
    """The image in the file at `path`, read whole, in mode RGB or L; `draft`: a JPEG at an eighth of its size."""
    with _opened(path) as image:
        if draft:
            image.draft("RGB", (1, 1))
        flat = _on_ground(_in_bytes(ImageOps.exif_transpose(image)), background)
        return flat.convert("RGB" if channels == 3 else "L")


def _reason(error: Exception) -> str | Exception:
    return (isinstance(error, OSError) and error.strerror) or error


def _opened(path: Path) -> Image.Image:
    """The image file at `path`, HEIC by pillow-heif, whatever its name ends in."""
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        with path.open("rb") as file:
            is_heic = file.read(8)[4:] == b"ftyp"  # a box that videos begin with too
    if is_heic and heic_readable():
        with contextlib.suppress(UnidentifiedImageError):
            return Image.open(path)
    elif is_heic:
        raise ValueError(NO_HEIC)
    raise ValueError("damaged, or no image")


def _on_ground(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """`image` itself, or what is seen of it before a wall of the colour `background` where it is transparent."""
    if not image.has_transparency_data:
        return image
    above = image.convert("RGBA")
    ground = Image.new("RGBA", above.size, background)
    ground.alpha_composite(above)
    return ground


def _in_bytes(image: Image.Image) -> Image.Image:
    """`image` with values that Pillow converts as they are meant: it would clip those of more than eight bits."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        grey = Image.fromarray((values / 257).round().astype(np.uint8))
        if (clear := image.info.get("transparency")) is not None:  # the value that is transparent
            grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        return grey
    if image.mode in ("I", "F"):
        raise ValueError(
            f"its values are of mode {image.mode}, which does not say what is black and white; 8 or 16 bits do"
        )
    return image


def parse_color(background: Color) -> tuple[int, int, int]:
    """Red, green and blue from 0 to 255, of a name or notation that Pillow knows or of a list."""
    red, green, blue, *_ = (
        ImageColor.getrgb(background) if isinstance(background, str) else background
    )
    return red, green, blue
