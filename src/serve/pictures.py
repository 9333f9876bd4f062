"""Images in the answers of a service."""

import base64
import io

from PIL import Image
from torch import Tensor

from src.core.pixels import to_uint8


def to_png(image: Tensor) -> str:
    """Return an image (C, H, W) in [0, 1], C 1 or 3, as a PNG in base64."""
    pixels = to_uint8(image.detach().float().cpu()).permute(1, 2, 0).squeeze(2)
    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
