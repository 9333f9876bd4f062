"""`decode` returns the requested shape or raises a one-line error, for any bytes."""

import io
import warnings

import torch
from hypothesis import strategies as st
from PIL import Image

from src.data.decode import Fit, decode
from tests.properties import draws, holds, refused

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA")
MODES = (
    "1",
    "L",
    "LA",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBX",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "I;16",
    "F",
)
MAGIC = (
    b"",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"RIFF\0\0\0\0WEBP",
    b"P6 9 9 255\n",
)
SIDES = st.one_of(st.integers(1, 40), st.sampled_from([1, 2, 3, 257, 3000]))


@st.composite
def files(draw) -> bytes:
    """The bytes of a file: noise behind a format's signature, or an image, complete, cut or
    changed."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from(MAGIC)) + draw(st.binary(max_size=300))
    data = bytearray(encoded(draw))
    change = draw(st.sampled_from(["none", "cut", "bytes", "insert"]))
    if change == "cut":
        return bytes(data[: draw(st.integers(0, len(data)))])
    for _ in range(draw(st.integers(1, 8)) if change == "bytes" else 0):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    if change == "insert":
        place = draw(st.integers(0, len(data)))
        data[place:place] = draw(st.binary(min_size=1, max_size=20))
    return bytes(data)


def encoded(draw) -> bytes:
    """An image file; in color if the format does not support the mode."""
    size = (draw(SIDES), draw(SIDES))
    mode, name = draw(st.sampled_from(MODES)), draw(st.sampled_from(FORMATS))
    exif = Image.Exif()
    exif[0x0112] = draw(st.integers(0, 9))  # its orientation
    plain = Image.radial_gradient("L").resize(size)
    image = plain.convert(mode) if mode not in ("LAB", "PA") else Image.new(mode, size)
    for candidate in (image, plain.convert("RGB")):
        for more in ({"exif": exif.tobytes()}, {}):
            try:
                candidate.save(buffer := io.BytesIO(), name, **more)
                return buffer.getvalue()
            except (OSError, ValueError, TypeError, KeyError):
                continue
    return b"no image"


@draws(150, 1200)
def test_any_file_is_decoded_or_refused_in_one_line(count, tmp_path):
    path, seen = tmp_path / "file.png", {True: 0, False: 0}

    def claim(drawn):
        data, size, channels = drawn
        path.write_bytes(data)

        def shape():
            image = decode(path, Fit(size, channels))
            assert image.dtype == torch.uint8
            assert image.shape[0] == channels
            assert min(image.shape) > 0
            assert size is None or image.shape[1:] == size

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about files that it reads nevertheless
            seen[refused(shape) is not None] += 1

    sizes = st.sampled_from([None, (8, 8), (5, 9), (64, 1)])
    holds(count, st.tuples(files(), sizes, st.sampled_from([1, 3])), claim)
    assert min(seen.values()) > count / 10, seen  # both results occur
