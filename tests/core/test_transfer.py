"""Copies to a device arrive, and on a GPU nothing waits for them."""

import pytest
import torch

from src.core.transfer import to_device


def test_on_the_same_device_there_is_no_copy():
    values = torch.arange(3)
    assert to_device(values, torch.device("cpu")) is values


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_copy_to_a_gpu_does_not_wait():
    values, device = torch.arange(1000), torch.device("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        copy = to_device(values, device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(copy.cpu(), values)
