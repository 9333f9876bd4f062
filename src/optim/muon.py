"""Optimisers that torch does not have."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from src.core.types import Fraction, NonNegative, Positive, Probability


class Muon(torch.optim.Optimizer):
    """Filters step by their momentum made orthogonal (Jordan 2024, "Muon"), all else by SGD with Nesterov's momentum.

    Filters (out, in, h, w) are a matrix (out, in * h * w) here. Before a step they are brought to the norm sqrt(out), so that
    the rate says by how much they turn, whatever they had grown to; so they need a norm behind them, and no weight decay. The
    first layer, which sees images of three channels or one, is one of the rest, as it is in the author's nets.

    Args:
        params: parameters, or groups of them.
        lr, momentum, weight_decay: of the rest.
        filter_lr: of the filters, as a factor on lr.
        filter_momentum: of the filters.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Positive,
        momentum: Probability = 0.9,
        weight_decay: NonNegative = 0.0,
        filter_lr: Positive = 1.0,
        filter_momentum: Fraction = 0.6,
    ) -> None:
        super().__init__(
            params,
            {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "filter_lr": filter_lr,
             "filter_momentum": filter_momentum},
        )  # fmt: skip

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.ndim == 4 and p.shape[1] > 3:
                    direction = self._moved(p, p.grad, group["filter_momentum"])
                    p.mul_(len(p) ** 0.5 / p.norm())
                    p.add_(
                        orthogonal(direction.flatten(1)).view_as(p),
                        alpha=-group["lr"] * group["filter_lr"],
                    )
                else:
                    grad = p.grad.add(p, alpha=group["weight_decay"])
                    p.add_(self._moved(p, grad, group["momentum"]), alpha=-group["lr"])
        return loss

    def _moved(self, p: Tensor, grad: Tensor, momentum: float) -> Tensor:
        """Nesterov's direction, from the gradient and all before it."""
        buffer = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
        buffer.mul_(momentum).add_(grad)
        return grad.add(buffer, alpha=momentum)


def orthogonal(matrix: Tensor, steps: int = 3) -> Tensor:
    """U V^T of matrix (m, n) = U S V^T, about: Newton and Schulz's iteration in bf16 with Jordan's coefficients, which bring
    each singular value near 1 (0.7 to 1.2 after five steps) fast rather than close."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    if tall := len(x) > x.shape[1]:
        x = x.T
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)
