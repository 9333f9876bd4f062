"""Replay the kernels of a training step from CUDA graphs, without Python between them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def can_record() -> bool:
    """Return whether a pass may be recorded now: in training, by one process, without checks.

    Anomaly detection reads each gradient back to the CPU.
    """
    one_process = not torch.distributed.is_initialized()
    return torch.is_grad_enabled() and one_process and not torch.is_anomaly_enabled()


class Replay:
    """Call a function of a network through two CUDA graphs, one for each pass.

    The first call records the kernels of the forward and of the backward pass; later calls launch
    them all at once. This pays if a step has many small kernels: launching one takes Python longer
    than running it takes the GPU. Each shape of the inputs has its own recording.

    Each call overwrites the results of the one before, so run the backward pass before the next
    call. The function must not draw random numbers or read a value back to the CPU.

    Args:
        net: the network whose parameters get gradients.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self._recorded: dict[tuple[torch.Size, ...], Callable[..., Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the recordings out of copies: they use the memory of this network's weights."""
        return self.__dict__ | {"_recorded": {}}

    def __call__(self, function: Callable[..., Any], *inputs: Tensor) -> Any:
        """Return function(*inputs), which takes and returns tensors on the GPU."""
        shapes = tuple(x.shape for x in inputs)
        if shapes not in self._recorded:
            # the recording uses another stream than the training, which is fine here
            torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
            cast = torch.is_autocast_enabled("cuda")
            dtype = torch.get_autocast_dtype("cuda")
            # autocast's cache would keep casts of the weights that a replay cannot renew
            with torch.autocast("cuda", dtype, enabled=cast, cache_enabled=False):
                call: Any = _Call(self.net, function)
                self._recorded[shapes] = torch.cuda.make_graphed_callables(call, inputs)
        return self._recorded[shapes](*inputs)


class _Call(nn.Module):
    """A function as a module, which tells torch the parameters that it uses."""

    def __init__(self, net: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.net, self.function = net, function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)
