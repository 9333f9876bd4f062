"""Turn uploaded bytes into pixels, without trusting them."""

import io
import warnings
from collections.abc import Callable

from PIL import Image
from torch import Tensor

from src.core.files import heic_readable

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")  # others are not tried


class BadImage(Exception):
    """An upload that cannot be used; the message is for the person who sent it."""


def read_upload(
    content: bytes, prepare: Callable[[Image.Image], Tensor], max_megapixels: float
) -> Tensor:
    """Decode an uploaded image. Its size is known from the header, before anything is decoded.

    Args:
        content: the file.
        prepare: an open image -> what the network wants.
        max_megapixels: width times height, in millions, at most.

    Raises:
        BadImage: it is no image of a known format, too large, or damaged.
    """
    heic_readable()  # registers the format, if its package is installed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of sizes below our own limit
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise BadImage(f"the image has more than {max_megapixels:g} megapixels") from error
    except Exception as error:  # Pillow's plugins raise whatever their decoders raise
        raise BadImage("this is no image that can be read") from error
    with image:
        if image.width * image.height > 1e6 * max_megapixels:
            raise BadImage(
                f"the image has {image.width} x {image.height} pixels; "
                f"at most {max_megapixels:g} megapixels are read"
            )
        try:
            return prepare(image)
        except Exception as error:  # as above
            raise BadImage("the image is damaged") from error
