"""Muon, an optimizer that torch does not have."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from src.core.types import Fraction, NonNegative, Positive, Probability
from src.nets.cuda_graph import Recording


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
        self._recorded: dict[tuple[torch.Size, ...], Recording] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy or a checkpoint, which have no recordings."""
        super().__setstate__(state)
        self._recorded = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            filters = [p for p in trained if _is_inner_convolution(p)]
            if filters:
                directions = self._moved(
                    filters, [p.grad for p in filters], group["filter_momentum"]
                )
                sizes = torch._foreach_reciprocal(torch._foreach_norm(filters))
                torch._foreach_mul_(sizes, [len(p) ** 0.5 for p in filters])
                torch._foreach_mul_(filters, sizes)
                step = -group["lr"] * group["filter_lr"]
                torch._foreach_add_(filters, self._orthogonal_each(directions), alpha=step)
            others = [p for p in trained if not _is_inner_convolution(p)]
            if others:
                grads = torch._foreach_add(
                    [p.grad for p in others], others, alpha=group["weight_decay"]
                )
                directions = self._moved(others, grads, group["momentum"])
                torch._foreach_add_(others, directions, alpha=-group["lr"])
        return loss

    def _moved(
        self, parameters: list[Tensor], grads: list[Tensor] | tuple[Tensor, ...], momentum: float
    ) -> list[Tensor]:
        """Return the directions of Nesterov's momentum, and update the momentum buffers."""
        for p in parameters:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum_buffer"] for p in parameters]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, grads)
        return list(torch._foreach_add(grads, buffers, alpha=momentum))

    def _orthogonal_each(self, filters: list[Tensor]) -> list[Tensor]:
        """Return `orthogonal_each`; on a GPU its many small kernels are replayed."""
        if not filters[0].is_cuda:
            return orthogonal_each(filters)
        shapes = tuple(bank.shape for bank in filters)
        if shapes not in self._recorded:
            self._recorded[shapes] = Recording(orthogonal_each, filters)
        return self._recorded[shapes](filters)


def _is_inner_convolution(p: Tensor) -> bool:
    """Return whether `p` is the weight of a convolution whose input is not an image."""
    return p.ndim == 4 and p.shape[1] > 3


def orthogonal_each(filters: list[Tensor]) -> list[Tensor]:
    """Return `orthogonal` of each filter bank (out, in, h, w); those of one shape are stacked.

    A GPU then has far fewer kernels to launch.
    """
    indices: dict[torch.Size, list[int]] = {}
    for i, bank in enumerate(filters):
        indices.setdefault(bank.shape, []).append(i)
    results: dict[int, Tensor] = {}
    for shape, same in indices.items():
        matrices = orthogonal(torch.stack([filters[i] for i in same]).flatten(2))
        results |= zip(same, matrices.reshape(-1, *shape), strict=True)
    return [results[i] for i in range(len(filters))]


def orthogonal(matrices: Tensor, steps: int = 3) -> Tensor:
    """Return approximately U V^T for each matrix U S V^T of `matrices` (k, m, n).

    Uses the Newton-Schulz iteration X <- (a + b X X^T + c (X X^T)^2) X with Jordan's coefficients.
    They bring singular values close to 1 quickly, but not exactly: five steps bring them to between
    0.7 and 1.2, three steps less close. The factors of all steps are polynomials of the first
    X X^T, so they are multiplied first; these products are smaller than those with X.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.float()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    if tall := x.shape[1] > x.shape[2]:
        x = x.mT
    square = x @ x.mT
    product: Tensor | None = None
    for step in range(steps):
        factor = torch.baddbmm(square, square, square, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        if step < steps - 1:
            square = factor @ square @ factor  # X X^T of the next step
    x = x if product is None else product @ x
    return (x.mT if tall else x).to(matrices.dtype)
