"""JPEGs that need no scaling are decoded in less time, with the same pixels and errors."""

import random

import numpy as np
import pytest
from PIL import Image

from src.core.errors import UserError
from src.data import decode as decoder

HEIGHT, WIDTH = 24, 40


def photo(mode="RGB", seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((WIDTH, HEIGHT)).convert(mode)


def decoded(path, channels, size=(HEIGHT, WIDTH)):
    return decoder.decode_array(path, decoder.Fit(size, channels))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_jpegs_of_the_right_shape_have_the_pixels_of_an_opened_image(
    tmp_path, monkeypatch, subsampling, progressive, mode, channels
):
    path = tmp_path / "photo.jpg"
    photo(mode).save(path, quality=80, subsampling=subsampling, progressive=progressive)
    monkeypatch.setattr(decoder, "_open", lambda path: pytest.fail("opened"))
    pixels = decoded(path, channels)
    expected = np.asarray(Image.open(path)).reshape(HEIGHT, WIDTH, channels)
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("kind", ["rotated", "gray", "color", "cmyk", "png", "large", "other size"])
def test_other_images_are_opened(tmp_path, kind):
    """So they are rotated, converted and scaled as ever."""
    path, channels, size, exif = tmp_path / "photo.jpg", 3, (HEIGHT, WIDTH), Image.Exif()
    image = photo({"gray": "L", "cmyk": "CMYK"}.get(kind, "RGB"))
    expected = image.convert("RGB")
    if kind == "rotated":
        exif[decoder.ORIENTATION] = 3
        expected = image.transpose(Image.Transpose.ROTATE_180)
    elif kind == "color":
        channels, expected = 1, image.convert("L")
    elif kind == "other size":
        size, expected = (12, 20), image.resize((20, 12), Image.Resampling.BILINEAR)
    image.save(path, "PNG" if kind == "png" else "JPEG", exif=exif, quality=100, subsampling=0)
    if kind == "large":
        path.write_bytes(path.read_bytes() + bytes(decoder.SMALL))
    assert decoder._decode_ready(path, (*size, channels)) is None
    difference = decoded(path, channels, size).squeeze().astype(int) - np.asarray(expected)
    assert abs(difference).max() <= 6  # JPEG loses a little


def test_damaged_jpegs_are_decoded_or_refused_as_opened_ones(tmp_path, monkeypatch):
    path, rng = tmp_path / "photo.jpg", random.Random(0)
    photo().save(path)
    intact, short_way, refused = path.read_bytes(), decoder._decode_ready, 0

    def outcome(way):
        monkeypatch.setattr(decoder, "_decode_ready", way)
        try:
            return decoded(path, 3).tolist()
        except UserError as error:
            return str(error)

    for _ in range(200):
        damaged = bytearray(intact)
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.choice([len(damaged), rng.randrange(len(damaged))])])
        opened = outcome(lambda *given: None)
        assert outcome(short_way) == opened
        refused += isinstance(opened, str)
    assert 20 < refused < 180
