"""Straight lines and principal directions in latent space."""

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


def principal_directions(z: Tensor, images: Tensor, count: int) -> Tensor:
    """Return the directions in latent space that change the images most.

    The directions are a least squares fit of z to the first principal components of the images
    (Härkönen 2020, section 2.2, applied to pixels), each as long as the standard deviation of z.

    Args:
        z: (N, latent_dim) random latents, N above latent_dim.
        images: their images, (N, pixels).
        count: number of directions, reduced to latent_dim.

    Returns:
        (count, latent_dim), the strongest first; the largest number of each is positive.
    """
    z, images = (values.double().cpu() - values.double().cpu().mean(0) for values in (z, images))
    # the scores of the components are the eigenvectors of the (N, N) products
    scores = torch.linalg.eigh(images @ images.T).eigenvectors.flip(1)
    scores = scores[:, : min(count, z.shape[1])]
    directions = torch.linalg.lstsq(scores, z).solution  # (count, latent_dim)
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    directions = directions * largest.sign() / directions.norm(dim=1, keepdim=True)
    return (directions * z.std()).float()
