"""How far samples are from images, on any features: Frechet and kernel distances, precision and recall, density and coverage.

Features are (N, D) float tensors; real ones first, generated ones second.
"""

import numpy as np
import scipy.linalg
import torch
from torch import Tensor


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """||mu_r - mu_f||^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)), Heusel 2017, eq. 6; 0 for equal Gaussians, no upper end.

    It is biased upwards for few samples: compare only at equal N, beside the floor of real against real.
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
    """The unbiased squared MMD under (x.y / D + 1)^3, Binkowski 2018 (KID); may be slightly below 0."""
    real, fake = real.double(), fake.double()

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: Tensor) -> Tensor:
        k = kernel(x, x)
        return (k.sum() - k.trace()) / (len(x) * (len(x) - 1))

    return float(within(real) + within(fake) - 2 * kernel(real, fake).mean())


def neighbours(real: Tensor, fake: Tensor, k: int = 5) -> dict[str, float]:
    """How the two sets lie in each other, by balls that reach each point's k-th nearest neighbour in its own set.

    Returns:
        precision: share of samples inside some real ball; recall: share of images inside some sample's ball (both
        Kynkaanniemi 2019, eq. 1-3); density: real balls around a sample, over k (above 1 where samples crowd); coverage:
        share of real balls that hold a sample (both Naeem 2020, eq. 4-5).
    """
    real_radius = (
        torch.cdist(real, real).kthvalue(k + 1, dim=1).values
    )  # the nearest is the point itself
    fake_radius = torch.cdist(fake, fake).kthvalue(k + 1, dim=1).values
    distance = torch.cdist(real, fake)  # (R, F)
    in_real_ball = distance <= real_radius.unsqueeze(1)
    return {
        "precision": in_real_ball.any(0).float().mean().item(),
        "recall": (distance <= fake_radius.unsqueeze(0)).any(1).float().mean().item(),
        "density": in_real_ball.float().sum(0).mean().item() / k,
        "coverage": in_real_ball.any(1).float().mean().item(),
    }
