"""The moving average of a network's weights."""

import copy

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

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move the average towards the weights of `net`; copy buffers that hold integers."""
        n = self.updates
        decay = min(self.decay, (1 + n) / (10 + n)) if self.ramp_up else self.decay
        pairs = [*zip(_tensors(self.module), _tensors(net), strict=True)]
        floats = [(mean, new) for mean, new in pairs if mean.is_floating_point()]
        means, news = [mean for mean, _ in floats], [new for _, new in floats]
        torch._foreach_lerp_(means, news, 1 - decay if n else 1.0)
        counts = [(mean, new) for mean, new in pairs if not mean.is_floating_point()]
        if counts:
            torch._foreach_copy_([mean for mean, _ in counts], [new for _, new in counts])
        self.updates += 1

    def get_extra_state(self) -> Tensor:
        """Return the number of updates, for checkpoints."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the number of updates."""
        self.updates = int(state)


def _tensors(net: nn.Module) -> list[Tensor]:
    return [*net.parameters(), *net.buffers()]


def moving_average(net: nn.Module, decay: float, ramp_up: bool = False) -> MovingAverage | None:
    """Return a `MovingAverage` of `net`; None if `decay` is 0."""
    return MovingAverage(net, decay, ramp_up) if decay else None
