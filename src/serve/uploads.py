"""Read uploads: from a request to bytes, and from bytes to pixels, without trusting them."""

import asyncio
import base64
import binascii
import io
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from fastapi import HTTPException, Request
from PIL import Image
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from src.core.image_files import heic_readable
from src.serve.service import Service

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")  # others are not tried
HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1")  # at byte 4 of a file
Prepared = TypeVar("Prepared")
Image.MAX_IMAGE_PIXELS = None  # our own limit is checked


class BadImage(Exception):
    """An upload that cannot be used; the message is for the person who sent it."""


class Upload(NamedTuple):
    """A file that a client sent."""

    name: str
    content: bytes


class Base64Images(BaseModel):
    """Images as base64, for clients without multipart forms."""

    images: list[str]


def body_schema() -> dict[str, Any]:
    """Return the two kinds of body that `read_uploads` understands, for OpenAPI."""
    binary = {"type": "string", "format": "binary"}
    files = {"type": "array", "items": binary, "description": "one or several images"}
    form = {"type": "object", "required": ["files"], "properties": {"files": files}}
    content = {
        "multipart/form-data": {"schema": form},
        "application/json": {"schema": Base64Images.model_json_schema()},
    }
    return {"requestBody": {"content": content, "required": True}}


async def read_uploads(request: Request, service: Service) -> list[Upload]:
    """Return the files of a form, or the images of a JSON body.

    Raises:
        HTTPException: 422: there are none or too many, or the body has another form; 413: a file is
            too large; 400: the client closed the connection before it had sent all.
    """
    limits = service.limits
    try:
        uploads = await _received(request)
    except ClientDisconnect as error:
        raise HTTPException(400, "the connection was closed before the end of the body") from error
    if not 1 <= len(uploads) <= limits.max_files:
        numbers = "one image" if limits.max_files == 1 else f"1 to {limits.max_files} images"
        raise HTTPException(422, f"send {numbers} in a request")
    if any(len(upload.content) > 1e6 * limits.max_megabytes for upload in uploads):
        service.refused.labels("too large").inc()
        raise HTTPException(413, f"an image has more than {limits.max_megabytes:g} MB")
    return uploads


async def _received(request: Request) -> list[Upload]:
    """Return the files of a form, or the images of a JSON body, of any number and size."""
    if request.headers.get("content-type", "").lower().startswith("application/json"):
        try:
            body = Base64Images.model_validate_json(await request.body())
        except ValueError as error:
            raise HTTPException(422, 'send {"images": ["BASE64", ...]}') from error
        return [Upload(str(i), _from_base64(i, text)) for i, text in enumerate(body.images)]
    async with request.form() as form:
        parts = [part for part in form.getlist("files") if isinstance(part, UploadFile)]
        return [Upload(part.filename or "image", await part.read()) for part in parts]


def _from_base64(number: int, text: str) -> bytes:
    """Return the bytes of an image; a data URL is allowed too, and so are line breaks."""
    try:
        return base64.b64decode("".join(text.rpartition(",")[2].split()), validate=True)
    except (binascii.Error, ValueError):
        raise HTTPException(422, f"image {number} is not base64") from None


def read_image(
    content: bytes, prepare: Callable[[Image.Image], Prepared], max_megapixels: float
) -> Prepared | BadImage:
    """Decode an uploaded image. Its size is known from the header, before anything is decoded.

    Args:
        content: the file.
        prepare: an open image -> what the network wants.
        max_megapixels: width times height, in millions, at most.

    Returns:
        the prepared image; a BadImage if it has no known format, is too large, or is damaged.
    """
    reads_heic = heic_readable()  # registers the format, if its package is installed
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        image = Image.open(io.BytesIO(content), formats=formats)
    except Exception:  # Pillow's plugins raise whatever their decoders raise
        if not reads_heic and content[4:12] in HEIC:
            return BadImage("this service cannot read HEIC: send a JPEG")
        return BadImage("this is not a readable image")
    with image:
        if image.width * image.height > 1e6 * max_megapixels:
            return BadImage(
                f"the image has {image.width} x {image.height} pixels; "
                f"at most {max_megapixels:g} megapixels are read"
            )
        try:
            return prepare(image)
        except Exception:  # as above
            return BadImage("the image is damaged")


async def read_images(
    uploads: list[Upload], service: Service, prepare: Callable[[Image.Image], Prepared]
) -> list[Prepared | BadImage]:
    """Decode all uploads, side by side; see `read_image`."""
    limit = service.limits.max_megapixels
    images = await asyncio.gather(
        *(service.in_thread(read_image, upload.content, prepare, limit) for upload in uploads)
    )
    service.refused.labels("bad image").inc(sum(isinstance(one, BadImage) for one in images))
    return list(images)
