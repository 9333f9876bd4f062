"""How far samples are from images, on any features: Frechet and kernel distances, precision and recall, density and coverage.

Features are (N, D) float tensors; real ones first, generated ones second. All is computed in float64.
"""

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

ROWS = 100  # of a matrix of distances that are in memory at a time: few stay in the caches


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """||mu_r - mu_f||^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)), Heusel 2017, eq. 6; 0 for equal Gaussians, no upper end.

    It takes two points of each. It is biased upwards for few: compare only at equal N, beside the floor of real against real.
    """
    a, b = real.double().cpu().numpy(), fake.double().cpu().numpy()
    cov_a, cov_b = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    # tr (A B)^(1/2) is the sum of the roots of AB's eigenvalues, and AB has those of the symmetric A^(1/2) B A^(1/2)
    values, vectors = scipy.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(scipy.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(
        np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    )


def kernel_distance(real: Tensor, fake: Tensor) -> float:
    """The unbiased squared MMD under (x.y / D + 1)^3, Binkowski 2018 (KID); may be slightly below 0. It takes two points of
    each."""
    real, fake = real.double(), fake.double()

    def total(x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([_cubed(part @ y.T / y.shape[1]).sum() for part in x.split(ROWS)]).sum()

    def within(x: Tensor) -> Tensor:
        of_itself = _cubed(x.square().sum(1) / x.shape[1]).sum()
        return (total(x, x) - of_itself) / (len(x) * (len(x) - 1))

    between = total(real, fake) / (len(real) * len(fake))
    return float(within(real) + within(fake) - 2 * between)


def _cubed(x: Tensor) -> Tensor:
    """(x + 1)^3; as products, which are ten times as fast as a power."""
    x = x + 1
    return x * x * x


def neighbor_metrics(real: Tensor, fake: Tensor, k: int = 5) -> dict[str, float]:
    """How the two sets lie in each other, by balls that reach each point's k-th nearest neighbour in its own set, which must
    have more than k points.

    Returns:
        precision: share of samples inside some real ball; recall: share of images inside some sample's ball (both
        Kynkaanniemi 2019, eq. 1-3); density: real balls around a sample, over k (above 1 where samples crowd); coverage:
        share of real balls that hold a sample (both Naeem 2020, eq. 4-5).
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
    """How far each point's k-th nearest neighbour is, (N,); the nearest is the point itself."""
    parts = [torch.cdist(part, x).topk(k + 1, largest=False).values for part in x.split(ROWS)]
    return torch.cat(parts)[:, k]
