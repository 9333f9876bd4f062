"""Formulas, one function per equation; every mean is over the batch.

`real` and `fake` are the discriminator's raw scores, (B,) or (B, 1), any real number: no sigmoid before, none expected.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.core.types import Fraction


def bce_discriminator(real: Tensor, fake: Tensor, label_smoothing: Fraction = 0.0) -> Tensor:
    """-log sigmoid(real) - log(1 - sigmoid(fake)), Goodfellow 2014, eq. 1, computed from logits.

    label_smoothing in [0, 1) lowers the target of the real images to 1 - label_smoothing (one-sided, Salimans 2016, 3.4).
    """
    target = torch.full_like(real, 1.0 - label_smoothing)
    loss_real = F.binary_cross_entropy_with_logits(real, target)
    return loss_real + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))


def bce_generator(fake: Tensor) -> Tensor:
    """-log sigmoid(fake): the non-saturating generator loss, Goodfellow 2014, section 3."""
    return F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))


def lsgan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """1/2 (real - 1)^2 + 1/2 fake^2, Mao 2016, eq. 9 (a = 0, b = 1)."""
    return 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()


def lsgan_generator(fake: Tensor) -> Tensor:
    """1/2 (fake - 1)^2, Mao 2016, eq. 9 (c = 1)."""
    return 0.5 * (fake - 1).square().mean()


def cyclegan_generator(fake: Tensor) -> Tensor:
    """(fake - 1)^2: Zhu 2017, section 4, where the discriminator's objective alone is halved (`lsgan_discriminator`)."""
    return (fake - 1).square().mean()


def wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """mean fake - mean real: minus the critic's estimate of the earth mover's distance, Arjovsky 2017, eq. 2."""
    return fake.mean() - real.mean()


def wasserstein_generator(fake: Tensor) -> Tensor:
    """-mean fake, Arjovsky 2017, algorithm 1; the hinge loss has the same generator."""
    return -fake.mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """relu(1 - real) + relu(1 + fake), Lim & Ye 2017; Miyato 2018, eq. 16."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor] | nn.Module, real: Tensor, fake: Tensor, mix: Tensor
) -> Tensor:
    """mean over SAMPLES of (||dD/dx_hat||_2 - 1)^2 with x_hat = mix * real + (1 - mix) * fake, Gulrajani 2017, eq. 3.

    The norm runs over all elements of one sample. Where the gradient is exactly zero the norm's own gradient is taken as
    zero, so the penalty stays finite there. Multiply by lambda (10) outside.

    Args:
        critic: (B, C, H, W) -> (B, 1) scores. A compiled one runs eager here, since its double backward is not to be trusted.
        real, fake: (B, C, H, W); no gradient flows into them.
        mix: (B, 1, 1, 1) uniform on (0, 1), one number a sample.
    """
    x_hat = torch.lerp(fake.detach(), real.detach(), mix).requires_grad_(True)
    with torch.compiler.set_stance("force_eager"):
        scores = critic(x_hat)
    (gradient,) = torch.autograd.grad(scores.sum(), x_hat, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def bernoulli_nll(logits: Tensor, x: Tensor) -> Tensor:
    """-log p(x | sigmoid(logits)) of each image in nats, (B,), Gregor 2015, eq. 9; float32.

    Args:
        logits: (B, C, H, W), any real number.
        x: (B, C, H, W) in [0, 1]; a value between counts as that share of ones, which is no likelihood of grey images.
    """
    return (
        F.binary_cross_entropy_with_logits(logits.float(), x.float(), reduction="none")
        .flatten(1)
        .sum(1)
    )


def gaussian_kl(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, I)) in nats, 1/2 sum_j mu^2 + sigma^2 - log sigma^2 - 1 over the last dimension; float32.

    Gregor 2015, eq. 10 and 11 is its sum over the steps: the "-T/2" there is one for each latent dimension.
    """
    mu, log_sigma = mu.float(), log_sigma.float()
    return 0.5 * (mu.square() + (2 * log_sigma).exp() - 2 * log_sigma - 1).sum(-1)


def skip_gram(centre: Tensor, context: Tensor, noise: Tensor) -> Tensor:
    """-log sigmoid(v_O . v_I) - sum_k log sigmoid(-v_k . v_I), Mikolov 2013b, eq. 4, negated; mean over the pairs.

    Args:
        centre, context: (P, width), v_I and v_O, the vectors of a pair's two words.
        noise: (P, K, width), those of its K noise words.
    """
    true = (centre * context).sum(-1)
    false = (centre.unsqueeze(1) * noise).sum(-1)
    return -(F.logsigmoid(true) + F.logsigmoid(-false).sum(1)).mean()


def cycle_consistency(image: Tensor, back: Tensor) -> Tensor:
    """|back - image|, mean over all elements: Zhu 2017, eq. 2 (its sum of both ways is taken outside), and the identity loss,
    section 5.2, where `back` is an image of a domain as the net that makes such images answers it."""
    return (back.float() - image.float()).abs().mean()


def gram(maps: Tensor) -> Tensor:
    """G_ij = sum_k F_ik F_jk over the places k of maps F (B, N, h, w): (B, N, N), Gatys 2015, eq. 3; no mean is taken."""
    rows = maps.flatten(2)
    return rows @ rows.transpose(1, 2)


def content_loss(maps: Tensor, target: Tensor) -> Tensor:
    """1/2 sum (F - P)^2 over all maps (B, N, h, w) and places, Gatys 2015, eq. 1; the mean over the images is taken."""
    return 0.5 * (maps - target).square().flatten(1).sum(1).mean()


def style_loss(maps: Tensor, target: Tensor, places: int) -> Tensor:
    """One layer's E = 1 / (4 N^2 M^2) sum (G - A)^2 of maps (B, N, h, w) with M = h w, Gatys 2015, eq. 4.

    Args:
        target: A, the style's Gram matrix (N, N) or (B, N, N).
        places: M of the style. Where it is not that of `maps` each matrix counts by its own, as if both were of one size.
    """
    n, m = maps.shape[1], maps[0, 0].numel()
    return 0.25 * (gram(maps) / (n * m) - target / (n * places)).square().flatten(1).sum(1).mean()


def total_variation(images: Tensor) -> Tensor:
    """sum (x_(i+1)j - x_ij)^2 + (x_i(j+1) - x_ij)^2 over images (B, C, H, W), mean over B: Mahendran 2015, eq. 3, beta = 2."""
    down, right = images.diff(dim=2), images.diff(dim=3)
    return (down.square().flatten(1).sum(1) + right.square().flatten(1).sum(1)).mean()
