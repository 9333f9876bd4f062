"""Muon, an optimizer that torch does not have."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from src.core.types import Fraction, NonNegative, Positive, Probability


class Muon(torch.optim.Optimizer):
    """Update filters by orthogonalized momentum (Jordan 2024), the rest by Nesterov SGD.

    A filter bank (out, in, h, w) counts as a matrix (out, in * h * w). Before each step it is
    scaled to the norm sqrt(out), so the learning rate sets the angle of the step, for any size
    of the weights. So each convolution needs a norm after it, and no weight decay. The first
    layer, whose input has at most three channels, is updated like the other parameters, as in the
    author's networks.

    Args:
        params: parameters, or groups of them.
        lr, momentum, weight_decay: for the other parameters.
        filter_lr: learning rate of the filters, as a factor on `lr`.
        filter_momentum: momentum of the filters.
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
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if _is_inner_convolution(p):
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
        """Return the direction of Nesterov's momentum, and update the momentum buffer."""
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p)
        buffer: Tensor = state["momentum_buffer"].mul_(momentum).add_(grad)
        return grad.add(buffer, alpha=momentum)


def _is_inner_convolution(p: Tensor) -> bool:
    """Return whether `p` is the weight of a convolution whose input is not an image."""
    return p.ndim == 4 and p.shape[1] > 3


def orthogonal(matrix: Tensor, steps: int = 3) -> Tensor:
    """Return approximately U V^T for matrix (m, n) = U S V^T, in the same shape.

    Uses the Newton-Schulz iteration in bf16 with Jordan's coefficients. They bring singular values
    close to 1 quickly, but not exactly: five steps bring them to between 0.7 and 1.2, three
    steps less close.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    if tall := len(x) > x.shape[1]:
        x = x.T
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)
