"""Distances between generated and real images, on features of any kind.

Frechet and kernel distance, precision and recall, density and coverage. Features are (N, D) float
tensors, real ones first. Everything is computed in float64.
"""

import numpy as np
import torch
from torch import Tensor

ROWS = 100  # rows of a distance matrix in memory at a time; few rows stay in the CPU's cache


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Return ||mu_r - mu_f||^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)) (Heusel 2017, eq. 6).

    It is 0 for equal Gaussians, and has no upper limit. It is biased upwards for few samples, so
    values are comparable only at equal N, and with the distance of real to real images. Needs two
    samples of each.
    """
    import scipy.linalg  # slow to import

    a, b = real.double().cpu().numpy(), fake.double().cpu().numpy()
    cov_a, cov_b = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    # tr (A B)^(1/2) is the sum of the square roots of the eigenvalues of A B, which equal those of
    # the symmetric matrix A^(1/2) B A^(1/2)
    values, vectors = scipy.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(scipy.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(
        np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    )


def kernel_distance(real: Tensor, fake: Tensor) -> float:
    """Return the unbiased squared MMD with the kernel (x.y / D + 1)^3 (KID; Binkowski 2018).

    It may be slightly negative. Needs two samples of each.
    """
    real, fake = real.double(), fake.double()

    def total(x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([_cubed(part @ y.T / y.shape[1]).sum() for part in x.split(ROWS)]).sum()

    def within(x: Tensor) -> Tensor:
        diagonal = _cubed(x.square().sum(1) / x.shape[1]).sum()
        return (total(x, x) - diagonal) / (len(x) * (len(x) - 1))

    between = total(real, fake) / (len(real) * len(fake))
    return float(within(real) + within(fake) - 2 * between)


def _cubed(x: Tensor) -> Tensor:
    """Return (x + 1)^3 as products, which is ten times as fast as a power."""
    x = x + 1
    return x * x * x


def neighbor_metrics(real: Tensor, fake: Tensor, k: int = 5) -> dict[str, float]:
    """Return how the two sets overlap, measured by balls around their points.

    The ball of a point reaches its k-th nearest neighbor in its own set, which must have more than
    k points.

    Returns:
        precision: share of generated points inside some real ball.
        recall: share of real points inside some generated ball (both Kynkaanniemi 2019).
        density: number of real balls around a generated point, divided by k; may exceed 1.
        coverage: share of real balls with a generated point inside (both Naeem 2020).
    """
    real, fake = real.double(), fake.double()
    real_radius, fake_radius = _radius(real, k), _radius(fake, k)
    balls = torch.zeros(len(fake), dtype=torch.int64, device=fake.device)  # around each sample
    recalled, covered = [], []
    for part, radius in zip(real.split(ROWS), real_radius.split(ROWS), strict=True):
        distance = torch.cdist(part, fake)  # (rows, F)
        inside = distance <= radius.unsqueeze(1)
        balls += inside.sum(0)
        covered.append(inside.any(1))
        recalled.append((distance <= fake_radius).any(1))
    return {
        "precision": (balls > 0).double().mean().item(),
        "recall": torch.cat(recalled).double().mean().item(),
        "density": balls.double().mean().item() / k,
        "coverage": torch.cat(covered).double().mean().item(),
    }


def _radius(x: Tensor, k: int) -> Tensor:
    """Return the distance from each point to its k-th nearest neighbor, (N,)."""
    parts = [torch.cdist(part, x).topk(k + 1, largest=False).values for part in x.split(ROWS)]
    return torch.cat(parts)[:, k]
