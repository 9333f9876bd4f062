"""Convert pixels: stored as uint8, computed with as float."""

import torch
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """Convert uint8 in 0..255 to float32 in [0, 1]."""
    return images.to(torch.float32).div_(255)


def to_uint8(images: Tensor) -> Tensor:
    """Convert float in [0, 1] to uint8 in 0..255, rounding to the nearest; clips other values."""
    return images.clamp(0, 1).mul(255).round().byte()
