"""Image files for uploads."""

import base64
import io

import numpy as np
from PIL import Image


def encoded(pixels: np.ndarray, kind: str = "PNG", **more: object) -> bytes:
    """Return an image file of pixels (H, W) or (H, W, 3), uint8."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **more)
    return buffer.getvalue()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Return random pixels, uint8."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def pixels_of(png: str) -> np.ndarray:
    """Return the pixels of a PNG in base64."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))
