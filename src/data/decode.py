"""Decode image files: every format that Pillow reads, transparent or not, and HEIC if available."""

import contextlib
import errno
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError
from torch import Tensor

from src.core.errors import UserError
from src.core.files import printable
from src.core.image_files import NO_HEIC, heic_readable
from src.core.types import Color

WHITE = (255, 255, 255)
ORIENTATION, PHOTOMETRIC = 0x0112, 0x0106  # EXIF tags
EXIF, FRAMES = 0xE1, (0xC0, 0xC1, 0xC2)  # markers of a JPEG: baseline, extended, progressive
SMALL = 2**16  # bytes of a file that is read at once
Image.MAX_IMAGE_PIXELS = 2**29  # cameras have up to 200 megapixels, more than Pillow's limit
Interpolation = Literal["bilinear", "bicubic"]


class Fit(NamedTuple):
    """The size, channels and background of decoded images, and how they are resized.

    Attributes:
        size: height and width, which it is scaled to cover and then cropped to; None: its own.
        channels: 1 or 3.
        background: red, green and blue from 0 to 255 behind transparent pixels.
        crop: part of the largest possible height and width that is kept, from the center.
        interpolation: how pixels are interpolated, with antialiasing.
    """

    size: tuple[int, int] | None
    channels: int
    background: tuple[int, int, int] = WHITE
    crop: float = 1.0
    interpolation: Interpolation = "bilinear"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the result, if `size` is given."""
        assert self.size is not None
        return self.channels, *self.size


def decode(path: Path, fit: Fit) -> Tensor:
    """Decode an image file, rotated as its EXIF says, and return it as `fit` says.

    Returns:
        (C, H, W) uint8.

    Raises:
        UserError: Pillow cannot read the whole file; the message names it.
    """
    return torch.from_numpy(decode_array(path, fit).copy()).permute(2, 0, 1)


def decode_array(path: Path, fit: Fit) -> np.ndarray:
    """Decode an image file as `decode` does; return a read-only array (H, W, C) uint8."""
    if fit.size is not None and fit.crop == 1:
        ready = _decode_ready(path, (*fit.size, fit.channels))
        if ready is not None:
            return ready
    with _naming(path), _open(path) as image:
        return _fitted(image, fit)


def prepare(image: Image.Image, fit: Fit) -> Tensor:
    """Return an open image as `decode` does. Raises whatever Pillow's plugins raise."""
    return torch.from_numpy(_fitted(image, fit).copy()).permute(2, 0, 1)


def _fitted(image: Image.Image, fit: Fit) -> np.ndarray:
    """Return an open image, upright, scaled and cropped: a read-only array (H, W, C) uint8."""
    image = _upright(image, fit.channels, fit.background)
    # ImageOps.fit copies an image that has the right size already
    if fit.size is not None and (image.size != (fit.size[1], fit.size[0]) or fit.crop != 1):
        method = Image.Resampling[fit.interpolation.upper()]
        side = (1 - fit.crop) / 2
        image = ImageOps.fit(image, (fit.size[1], fit.size[0]), method, bleed=side)
    return np.asarray(image).reshape(image.height, image.width, fit.channels)


def _decode_ready(path: Path, shape: tuple[int, int, int]) -> np.ndarray | None:
    """Decode a small JPEG that has the shape (H, W, C) already.

    Pillow's decoder does it without looking for the format and its details, in half of the time.
    None: it is no such file, or cannot be decoded.
    """
    mode = "RGB" if shape[2] == 3 else "L"
    with contextlib.suppress(OSError, ValueError):
        with path.open("rb", buffering=0) as file:
            content = file.read(SMALL)
        if len(content) < SMALL and _jpeg_shape(content) == shape:
            image = Image.frombytes(mode, (shape[1], shape[0]), content, "jpeg", mode, "")
            return np.asarray(image).reshape(shape)
    return None


def _jpeg_shape(content: bytes) -> tuple[int, int, int] | None:
    """Return (H, W, C) of a JPEG without EXIF, which could say that it is rotated; else None."""
    place = 2
    while content.startswith(b"\xff\xd8\xff") and place + 9 < len(content):
        _, marker, length = struct.unpack_from(">BBH", content, place)
        if marker == EXIF:
            break
        if marker in FRAMES:
            height, width, channels = struct.unpack_from(">HHB", content, place + 5)
            return height, width, channels
        place += 2 + length
    return None


def image_size(path: Path) -> tuple[int, int]:
    """Return width and height of an image file, before it is rotated. Raises as `decode`."""
    with _naming(path), _open(path) as image:
        return image.size


def check_readable(path: Path) -> None:
    """Raise UserError if `decode` cannot read a file.

    For a JPEG, this takes about a quarter of the time of `decode`.
    """
    with _naming(path), _open(path) as image:
        image.draft("RGB", (1, 1))  # a JPEG is read at an eighth of its size
        _upright(image, 3, WHITE)


def is_damage(error: UserError) -> bool:
    """Return whether the content of a file made `decode` fail, rather than the system."""
    cause = error.__cause__  # EINVAL: a damaged file made Pillow seek to a negative offset
    return not isinstance(cause, OSError) or cause.errno in (None, errno.EINVAL)


def reason(error: BaseException | None) -> str:
    """Return why `decode` failed, from the cause of its error."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever Pillow's plugins raise into a UserError that names the file."""
    try:
        yield
    except MemoryError:  # the file may be readable when there is more
        raise
    except Exception as error:
        raise UserError(f"{printable(path)} is not a readable image ({reason(error)})") from error


def _upright(image: Image.Image, channels: int, background: tuple[int, int, int]) -> Image.Image:
    """Read the whole image, and return it in mode RGB or L, as its EXIF says."""
    image.load()
    exif = image.getexif()
    white_is_0 = image.format == "TIFF" and exif.get(PHOTOMETRIC) == 0
    if exif.get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)  # which would copy an upright image
    opaque = _on_background(_to_8_bits(image, white_is_0), background)
    mode = "RGB" if channels == 3 else "L"
    return opaque if opaque.mode == mode else opaque.convert(mode)


def _open(path: Path) -> Image.Image:
    """Open an image file, and HEIC by pillow-heif, whatever the file's extension."""
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        with path.open("rb") as file:
            is_heic = file.read(8)[4:] == b"ftyp"  # videos start like this, too
    if is_heic and heic_readable():
        with contextlib.suppress(UnidentifiedImageError):
            return Image.open(path)
    elif is_heic:
        raise ValueError(NO_HEIC)
    raise ValueError("damaged, or not an image")


def _on_background(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Return `image` on a background of one color; itself if it is not transparent."""
    if not image.has_transparency_data:
        return image
    foreground = image.convert("RGBA")
    canvas = Image.new("RGBA", foreground.size, background)
    canvas.alpha_composite(foreground)
    return canvas


def _to_8_bits(image: Image.Image, white_is_0: bool) -> Image.Image:
    """Scale 16-bit values down to 8 bits; Pillow would clip them, and inverts only 8-bit values.

    Raises ValueError for 32-bit and float images, which do not say which value is white.
    """
    # Pillow scales a PGM of more than 8 bits to 16
    if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM"):
        values = 65535 - np.asarray(image) if white_is_0 else np.asarray(image)
        gray = Image.fromarray((values / 257).round().astype(np.uint8))
        if (transparent := image.info.get("transparency")) is not None:
            alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
            gray.putalpha(Image.fromarray(alpha))
        return gray
    if image.mode in ("I", "F"):
        raise ValueError(
            f"its values have mode {image.mode}, which does not say what is black and what is "
            "white; convert it to 8 or 16 bits"
        )
    return image


def parse_color(background: Color) -> tuple[int, int, int]:
    """Return red, green and blue from 0 to 255.

    Args:
        background: a name or notation that Pillow knows, or the three numbers.
    """
    if isinstance(background, str):
        red, green, blue, *_ = ImageColor.getrgb(background)
    else:
        red, green, blue, *_ = background
    return red, green, blue
