"""Straight lines in latent space."""

import torch
from torch import Tensor


def straight_walks(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Return `steps` evenly spaced points on each line from `start` to `end`, ends included.

    Args:
        start, end: (n, latent_dim).

    Returns:
        (n * steps, latent_dim); the points of a line are consecutive.
    """
    weights = torch.linspace(0, 1, steps, device=start.device).view(1, steps, 1)
    return torch.lerp(start.unsqueeze(1), end.unsqueeze(1), weights).flatten(0, 1)
