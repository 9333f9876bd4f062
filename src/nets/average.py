"""The moving average of a network's weights."""

import copy
from collections.abc import Callable
from itertools import compress

import torch
from torch import Tensor, nn


class MovingAverage(nn.Module):
    """The exponential moving average of a network's weights and buffers.

    It counts its updates in Python. torch.optim.swa_utils.AveragedModel reads its count from the
    device at each update, which waits until a GPU has finished the batch.

    Args:
        net: the network before training.
        decay: part of the average that stays at each update, in (0, 1).
        ramp_up: after n updates the decay is (1 + n) / (10 + n) if that is smaller, so that the
            first weights fade quickly.

    Attributes:
        module: a copy of the network with the averaged weights.
        updates: number of updates so far. The first one copies the weights.
    """

    def __init__(self, net: nn.Module, decay: float, ramp_up: bool = False) -> None:
        super().__init__()
        self.module = copy.deepcopy(net).requires_grad_(False)
        self.decay, self.ramp_up, self.updates = decay, ramp_up, 0
        self._tensors: _Tensors | None = None  # kept, because listing them is slower than averaging

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move the average towards the weights of `net`; copy buffers that hold integers."""
        n = self.updates
        decay = min(self.decay, (1 + n) / (10 + n)) if self.ramp_up else self.decay
        if self._tensors is None or self._tensors.net is not net:
            self._tensors = _Tensors(self.module, net)
        tensors = self._tensors
        torch._foreach_lerp_(tensors.means, tensors.values, 1 - decay if n else 1.0)
        if tensors.integer_values:
            torch._foreach_copy_(tensors.integers, tensors.integer_values)
        self.updates += 1

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "MovingAverage":
        """Move or convert all tensors, which replaces some of them."""
        self._tensors = None
        return super()._apply(fn, recurse)

    def get_extra_state(self) -> Tensor:
        """Return the number of updates, for checkpoints."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the number of updates."""
        self.updates = int(state)


class _Tensors:
    """The tensors of an average and, in the same order, those of its network `net`."""

    def __init__(self, average: nn.Module, net: nn.Module) -> None:
        self.net = net
        both = [[*module.parameters(), *module.buffers()] for module in (average, net)]
        is_float = [tensor.is_floating_point() for tensor in both[0]]
        self.means, self.values = (list(compress(tensors, is_float)) for tensors in both)
        is_integer = [not floating for floating in is_float]
        self.integers, self.integer_values = (list(compress(t, is_integer)) for t in both)


def moving_average(net: nn.Module, decay: float, ramp_up: bool = False) -> MovingAverage | None:
    """Return a `MovingAverage` of `net`; None if `decay` is 0."""
    return MovingAverage(net, decay, ramp_up) if decay else None
