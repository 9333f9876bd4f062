"""Variational auto-encoder: the bound, training, samples, reconstructions and latents."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from src.core.types import NonNegative, Positive, PositiveInt
from src.losses import bernoulli_nll, gaussian_kl
from src.models.base import Family
from src.nets.latents import straight_walks
from src.nets.vae import EncoderDecoder

# batches from which compiling saves time, on two CPU cores: docs/results/speed.md
COMPILE_BREAK_EVEN = 13_000


class VAE(Family):
    """Variational auto-encoder (Kingma & Welling 2013; beta: Higgins 2017).

    The prior is N(0, I), q(z | x) a diagonal Gaussian. The loss is L_x + beta * L_z, mean over the
    batch, with L_x = -log p(x | z) and L_z = KL(q(z | x) || p(z)) in nats per image. The reported
    bound is always L_x + L_z.

    Args:
        net: see `src.nets.vae.EncoderDecoder`.
        optimizer: parameters -> optimizer.
        schedule: progress in [0, 1) -> factor on the learning rate, see `src.optim.schedules`.
        latent_dim: length of z.
        beta: weight of L_z in the loss.
        likelihood: p(x | z). `bernoulli`: for binary pixels. `gaussian`: a density, so the
            nats can be negative; its mean is a sigmoid (Kingma & Welling 2013, C.2).
        sigma: standard deviation of the Gaussian, the same for all pixels; None: it is learned.
        compile: fuse the operations of the network while training, see `Family`.
        cuda_graph: replay the kernels of a training step on a GPU, see `Family.replayed`.
    """

    monitor = "val/bound_nats"
    compilable = ("net",)
    key_metrics = ("bound_nats", "fid_own", "iwae_nats", "recon_nats", "kl_nats")

    def __init__(
        self,
        net: EncoderDecoder,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[float], float],
        latent_dim: PositiveInt = 20,
        beta: NonNegative = 1.0,
        likelihood: Literal["bernoulli", "gaussian"] = "bernoulli",
        sigma: Positive | None = None,
        compile: bool | Literal["auto"] = False,
        cuda_graph: bool = False,
    ) -> None:
        if sigma is not None and likelihood == "bernoulli":
            raise ValueError(f"sigma={sigma} has no effect without likelihood=gaussian")
        super().__init__(compile, cuda_graph)
        self.net, self.optimizer, self.schedule = net, optimizer, schedule
        self.latent_dim, self.beta, self.likelihood = latent_dim, beta, likelihood
        start = torch.tensor(math.log(sigma or 0.3))
        self.log_sigma = nn.Parameter(start, likelihood == "gaussian" and sigma is None)
        self.moments = torch.empty(0)  # count, sums and sums of squares of mu, while evaluating

    def compile_break_even(self) -> int:
        return COMPILE_BREAK_EVEN

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer([p for p in self.parameters() if p.requires_grad])

    def nll(self, logits: Tensor, x: Tensor) -> Tensor:
        """Return L_x = -log p(x | z) of each image in nats, (B,).

        Args:
            logits: (B, C, H, W) the decoder's output.
            x: (B, C, H, W) in [0, 1].
        """
        if self.likelihood == "bernoulli":
            return bernoulli_nll(logits, x)
        log_sigma = self.log_sigma.float()
        squares = ((x.float() - logits.sigmoid()) * (-log_sigma).exp()).square()
        return (0.5 * (squares + math.log(2 * math.pi)) + log_sigma).flatten(1).sum(1)

    def forward(self, x: Tensor, eps: Tensor) -> dict[str, Tensor]:
        """Return `recon_nats` (L_x), `kl_nats` (L_z), their sum `bound_nats`, all (B,), and `mu`.

        Args:
            x: (B, C, H, W) in [0, 1].
            eps: (B, latent_dim) standard normal.
        """
        logits, mu, log_sigma = self.net(x, eps)
        recon, kl = self.nll(logits, x), gaussian_kl(mu, log_sigma)
        return {"bound_nats": recon + kl, "recon_nats": recon, "kl_nats": kl, "mu": mu}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the loss, and the bound and its parts for the log."""
        x = batch[0]
        eps = torch.randn(len(x), self.latent_dim, device=x.device)
        nats = self.replayed(self.forward, self, x, eps)
        loss = (nats["recon_nats"] + self.beta * nats["kl_nats"]).mean()
        parts = {
            name: nats[name].detach().mean() for name in ("bound_nats", "recon_nats", "kl_nats")
        }
        sigma = {"sigma": self.log_sigma.detach().exp()} if self.likelihood == "gaussian" else {}
        return {"loss": loss, **parts, **sigma}

    def on_validation_epoch_start(self) -> None:
        self.moments = torch.zeros(1 + 2 * self.latent_dim, dtype=torch.float64)

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate(batch[0], "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate(batch[0], "test")

    def on_validation_epoch_end(self) -> None:
        self._log_active_units("val")

    def on_test_epoch_end(self) -> None:
        self._log_active_units("test")

    def _evaluate(self, x: Tensor, stage: str) -> None:
        nats = self(x, torch.randn(len(x), self.latent_dim, device=x.device))
        mu = nats.pop("mu").cpu().double()
        self.moments += torch.cat([mu.new_tensor([len(mu)]), mu.sum(0), mu.square().sum(0)])
        logged = {f"{stage}/{name}": value.mean() for name, value in nats.items()}
        self.log_means(logged, len(x))

    def _log_active_units(self, stage: str) -> None:
        """Log how many latents vary with the image: variance of mu over the data above 0.01.

        See Burda 2015.
        """
        total = self.summed(self.moments.float().to(self.device))
        n, sums, squares = total.split([1, self.latent_dim, self.latent_dim])
        variance = squares / n - (sums / n).square()
        self.log(f"{stage}/active_units", (variance > 0.01).sum().float(), rank_zero_only=True)

    @torch.no_grad()
    def log_weights(self, x: Tensor, noise: torch.Generator) -> Tensor:
        """Return log p(x, z) - log q(z | x) of one random z per image, (B,), in nats.

        Args:
            x: (B, C, H, W) in [0, 1].
            noise: draws eps, on the model's device.
        """
        eps = torch.randn(len(x), self.latent_dim, generator=noise, device=x.device)
        logits, mu, log_sigma = self.net(x, eps)
        z = mu + log_sigma.exp() * eps
        # log p(z) - log q(z | x); the constants cancel
        ratio = (0.5 * (eps.square() - z.square()) + log_sigma).sum(1)
        return ratio - self.nll(logits, x)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return the mean of q(z | x), (n, latent_dim), of images (n, C, H, W) in [0, 1]."""
        return torch.cat([self.net.encode(x.to(self.device)).mu for x in images.split(500)])

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Return the mean of p(x | z), (n, C, H, W) in [0, 1], of z (n, latent_dim)."""
        return torch.cat([self.net.decode(part.to(self.device)).sigmoid() for part in z.split(500)])

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """Return z (n, latent_dim) from the prior, drawn by a CPU generator."""
        return torch.randn(n, self.latent_dim, generator=generator)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n images (n, C, H, W) in [0, 1]: the means of p(x | z) for z from the prior.

        The same (CPU) generator state gives the same images on every device.
        """
        return self.decode(self.latents(n, generator))

    def interpolate(self, n: int, steps: int, generator: torch.Generator) -> Tensor:
        """Return n walks of `steps` images between pairs of z, (n * steps, C, H, W) in [0, 1].

        A walk is a straight line in latent space; the images of one walk are consecutive.
        """
        start, end = torch.randn(2, n, self.latent_dim, generator=generator)
        return self.decode(straight_walks(start, end, steps))

    def reconstruct(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images (n, C, H, W) in [0, 1] decoded from their mean code; nothing is random."""
        return self.decode(self.encode(images))

    def graphs(self) -> dict[str, tuple[nn.Module, Any]]:
        """Return the network with an example input, for TensorBoard's graph tab."""
        eps = torch.zeros(2, self.latent_dim, device=self.device)
        return {"vae": (self.net, (self.decode(eps), eps))}
