"""The moving average of a network's weights."""

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def moving_average(net: nn.Module, decay: float, ramp_up: bool = False) -> AveragedModel | None:
    """Return the exponential moving average of `net`, which `update_parameters(net)` updates.

    Args:
        net: its weights and buffers are averaged.
        decay: part of the average that stays at each update, in [0, 1). 0: return None.
        ramp_up: after n updates the decay is (1 + n) / (10 + n) if that is smaller, so that the
            first weights fade quickly.
    """
    if decay == 0:
        return None

    def ramped_up(averaged: Any, current: Any, n: Any) -> None:
        get_ema_multi_avg_fn(min(decay, (1 + int(n)) / (10 + int(n))))(averaged, current, n)

    update = ramped_up if ramp_up else get_ema_multi_avg_fn(decay)
    return AveragedModel(net, multi_avg_fn=update, use_buffers=True).requires_grad_(False)
