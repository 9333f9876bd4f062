"""Copies from the processor to a device."""

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return `values` on `device`, without waiting for what a GPU is computing.

    A GPU reads pinned memory by itself. A copy from other memory first waits for all its work.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=device.type == "cuda")
