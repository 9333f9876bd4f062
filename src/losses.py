"""Loss formulas, one per equation; every mean is over the batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.core.types import Fraction, NonNegative, Positive

# --- GAN ------------------------------------------------------------------------------------------


@dataclass
class GANLoss(ABC):
    """The losses that a discriminator and a generator minimize.

    Logits are the discriminator's raw scores, (B,) or (B, 1): any real number, before a sigmoid.

    Args:
        gradient_penalty: weight of the gradient penalty (Gulrajani 2017) on the discriminator,
            0 for none.
        weight_clip: clamp every weight of the discriminator to [-weight_clip, weight_clip] after
            each of its steps (Arjovsky 2017), None for never.

    Attributes:
        generator_needs_real_logits: whether `generator` reads `real_logits`. If not, the training
            step does not compute them and passes None.
    """

    generator_needs_real_logits = False

    gradient_penalty: NonNegative = 0.0
    weight_clip: Positive | None = None

    @abstractmethod
    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar."""

    @abstractmethod
    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        """Return the generator's loss, a scalar."""


@dataclass
class NonSaturating(GANLoss):
    """Cross-entropy with the non-saturating generator loss (Goodfellow 2014, eq. 1 and section 3).

    Args:
        label_smoothing: in [0, 1); lowers the target of real images to 1 - label_smoothing
            (one-sided: Salimans 2016, section 3.4).
    """

    label_smoothing: Fraction = 0.0

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """-log sigmoid(real) - log(1 - sigmoid(fake)), computed from logits."""
        target = torch.full_like(real_logits, 1.0 - self.label_smoothing)
        loss_real = F.binary_cross_entropy_with_logits(real_logits, target)
        return loss_real + F.binary_cross_entropy_with_logits(
            fake_logits, torch.zeros_like(fake_logits)
        )

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        """-log sigmoid(fake)."""
        return F.binary_cross_entropy_with_logits(fake_logits, torch.ones_like(fake_logits))


@dataclass
class LeastSquares(GANLoss):
    """Least squares with targets 0 for fake and 1 for real (Mao 2016, eq. 9: a = 0, b = c = 1)."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """1/2 (real - 1)^2 + 1/2 fake^2."""
        return 0.5 * (real_logits - 1).square().mean() + 0.5 * fake_logits.square().mean()

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        """1/2 (fake - 1)^2."""
        return 0.5 * (fake_logits - 1).square().mean()


@dataclass
class Wasserstein(GANLoss):
    """Estimate of the earth mover's distance (Arjovsky 2017, eq. 2 and algorithm 1)."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Mean fake - mean real: minus the estimated distance."""
        return fake_logits.mean() - real_logits.mean()

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        """-mean fake."""
        return -fake_logits.mean()


@dataclass
class Hinge(GANLoss):
    """Hinge loss (Lim & Ye 2017; Miyato 2018, eq. 16 and 17)."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """relu(1 - real) + relu(1 + fake)."""
        return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        """-mean fake."""
        return -fake_logits.mean()


@dataclass
class RelativisticAverage(GANLoss):
    """RaGAN: is a real image more real than the mean fake one? (Jolicoeur-Martineau 2018.)

    With D(real) = sigmoid(real - mean fake) and D(fake) = sigmoid(fake - mean real), the
    discriminator minimizes -log D(real) - log(1 - D(fake)), the loss of the standard GAN (RaSGAN
    in the paper). The generator minimizes the same with real and fake exchanged, so it needs the
    logits of real images too.
    """

    generator_needs_real_logits = True

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """softplus(-(real - mean fake)) + softplus(fake - mean real)."""
        real_over_fake = real_logits - fake_logits.mean()
        fake_over_real = fake_logits - real_logits.mean()
        return F.softplus(-real_over_fake).mean() + F.softplus(fake_over_real).mean()

    def generator(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        """The discriminator's loss with real and fake exchanged."""
        assert real_logits is not None  # the training step computes them for this loss
        return self.discriminator(fake_logits, real_logits)


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor] | nn.Module,
    real_images: Tensor,
    fake_images: Tensor,
    mix: Tensor,
) -> Tensor:
    """Return the mean over samples of (||dD/dx_hat||_2 - 1)^2 (Gulrajani 2017, eq. 3).

    x_hat = mix * real + (1 - mix) * fake. The norm runs over all elements of one sample. At a
    gradient of exactly zero the norm's own gradient counts as zero, so the penalty stays finite.
    Multiply by lambda (10) outside.

    Args:
        discriminator: (B, C, H, W) -> (B, 1) logits. A compiled one runs eager here, because its
            double backward is not reliable.
        real_images, fake_images: (B, C, H, W); no gradient flows into them.
        mix: (B, 1, 1, 1) uniform on (0, 1), one number per sample.
    """
    x_hat = torch.lerp(fake_images.detach(), real_images.detach(), mix).requires_grad_(True)
    with torch.compiler.set_stance("force_eager"):
        logits = discriminator(x_hat)
    (gradient,) = torch.autograd.grad(logits.sum(), x_hat, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


# --- classifiers ----------------------------------------------------------------------------------


def classification_loss(
    logits: Tensor | tuple[Tensor | None, ...],
    labels: Tensor,
    aux_weight: float,
    label_smoothing: float,
) -> Tensor:
    """Return the cross-entropy, plus those of auxiliary heads (Szegedy 2015, section 5).

    Args:
        logits: (B, num_classes); if there are auxiliary heads, a tuple of such logits, which
            begins with those of the network itself. None stands for a head that was left out.
        labels: (B,), or (B, num_classes) for mixed images.
        aux_weight: weight of each auxiliary head.
        label_smoothing: share of each label that is spread over all classes.
    """
    main, *auxiliary = [
        F.cross_entropy(head.float(), labels, label_smoothing=label_smoothing)
        for head in (logits if isinstance(logits, tuple) else (logits,))
        if head is not None
    ]
    for loss in auxiliary:
        main = main + aux_weight * loss
    return main


# --- likelihood -----------------------------------------------------------------------------------


def bernoulli_nll(logits: Tensor, x: Tensor) -> Tensor:
    """Return -log p(x | sigmoid(logits)) of each image in nats, (B,) float32 (Gregor 2015, eq. 9).

    Args:
        logits: (B, C, H, W), any real number.
        x: (B, C, H, W) in [0, 1]. A value between 0 and 1 counts as that share of ones, which is
            not a likelihood of gray images.
    """
    return (
        F.binary_cross_entropy_with_logits(logits.float(), x.float(), reduction="none")
        .flatten(1)
        .sum(1)
    )


def gaussian_kl(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """Return KL(N(mu, sigma^2) || N(0, I)) in nats, summed over the last dimension, float32.

    1/2 sum_j mu^2 + sigma^2 - log sigma^2 - 1 (Kingma & Welling 2013, appendix B). Gregor 2015,
    eq. 10 and 11, is its sum over the steps: the "-T/2" there is one for each latent dimension.
    """
    mu, log_sigma = mu.float(), log_sigma.float()
    return 0.5 * (mu.square() + (2 * log_sigma).exp() - 2 * log_sigma - 1).sum(-1)


# --- word vectors ---------------------------------------------------------------------------------


def skip_gram(center: Tensor, context: Tensor, noise: Tensor) -> Tensor:
    """Return -log sigmoid(v_O . v_I) - sum_k log sigmoid(-v_k . v_I), mean over the pairs.

    Mikolov 2013b, eq. 4, negated.

    Args:
        center, context: (P, D), v_I and v_O: the vectors of the two words of each pair.
        noise: (P, K, D), the vectors of its K noise words.
    """
    true = (center * context).sum(-1)
    false = (center.unsqueeze(1) * noise).sum(-1)
    return -(F.logsigmoid(true) + F.logsigmoid(-false).sum(1)).mean()


# --- cycles, style --------------------------------------------------------------------------------


def cycle_consistency(image: Tensor, back: Tensor) -> Tensor:
    """Return the mean absolute difference of two image batches (Zhu 2017, eq. 2, one direction).

    With `back` = generator(image), an image that is already in the generator's target domain, it
    is the identity loss of section 5.2.
    """
    return (back.float() - image.float()).abs().mean()


def gram(maps: Tensor) -> Tensor:
    """Return G_ij = sum_k F_ik F_jk over the places k of maps F (B, N, h, w), (B, N, N).

    Gatys 2015, eq. 3; a sum, not a mean.
    """
    rows = maps.flatten(2)
    return rows @ rows.transpose(1, 2)


def content_loss(maps: Tensor, target: Tensor) -> Tensor:
    """Return 1/2 sum (F - P)^2 over all maps (B, N, h, w) and places, mean over B.

    Gatys 2015, eq. 1.
    """
    return 0.5 * (maps - target).square().flatten(1).sum(1).mean()


def style_loss(maps: Tensor, target: Tensor, places: int) -> Tensor:
    """Return one layer's E = 1 / (4 N^2 M^2) sum (G - A)^2 of maps (B, N, h, w), mean over B.

    M = h w; Gatys 2015, eq. 4.

    Args:
        target: A, the Gram matrix of the style, (N, N) or (B, N, N).
        places: M of the style image. If it differs from that of `maps`, each Gram matrix is
            divided by its own M, as if both images had the same size.
    """
    n, m = maps.shape[1], maps[0, 0].numel()
    return 0.25 * (gram(maps) / (n * m) - target / (n * places)).square().flatten(1).sum(1).mean()


def total_variation(images: Tensor) -> Tensor:
    """Return sum (x_(i+1)j - x_ij)^2 + (x_i(j+1) - x_ij)^2 of images (B, C, H, W), mean over B.

    Mahendran 2015, with beta = 2.
    """
    down, right = images.diff(dim=2), images.diff(dim=3)
    return (down.square().flatten(1).sum(1) + right.square().flatten(1).sum(1)).mean()
