"""Norms and limits of gradients and weights."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def grad_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Return the L2 norm over all gradients of `parameters`, a scalar."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


@torch.no_grad()
def clip_each(parameters: Iterable[Tensor], norm: float) -> None:
    """Scale each gradient whose L2 norm is above `norm` down to `norm`, in place."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack(list(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, list((norm / norms).clamp(max=1.0).unbind()))


@torch.no_grad()
def clip_weights(net: nn.Module, limit: float) -> None:
    """Clamp every parameter to [-limit, limit] in place (Arjovsky 2017, algorithm 1, line 7)."""
    parameters: list[Tensor] = list(net.parameters())
    torch._foreach_clamp_min_(parameters, -limit)
    torch._foreach_clamp_max_(parameters, limit)
