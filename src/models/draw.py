"""DRAW as a variational auto-encoder: the bound, training, sampling, and its canvases."""

import copy
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from src.core.types import Positive
from src.losses import bernoulli_nll, gaussian_kl
from src.models.base import Family
from src.nets.attention import NoAttention
from src.nets.draw import Draw
from src.optim.clipping import clip_each
from src.viz.canvases import Canvases

# calls of the cell from which compiling it saves time, on two CPU cores: docs/results/speed.md
COMPILE_BREAK_EVEN = 16_000


class DRAW(Family):
    """Deep recurrent attentive writer (Gregor 2015).

    Args:
        net: see `src.nets.draw.Draw`.
        optimizer: parameters -> optimizer.
        schedule: progress in [0, 1) -> factor on the learning rate, see `src.optim.schedules`.
        clip_norm: scale each parameter's gradient down to this L2 norm, None for never.
            (trainer.gradient_clip_val bounds the norm over all of them.)
        compile: fuse the cell with torch.compile while training, see `Family`.
        cuda_graph: replay the kernels of a training step on a GPU, see `Family.replayed`.
    """

    monitor = "val/bound_nats"
    compilable = ("net.cell",)
    key_metrics = ("bound_nats", "iwae_nats", "recon_nats", "kl_nats", "fid_own", "precision")

    def __init__(
        self,
        net: Draw,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[float], float],
        clip_norm: Positive | None = 5.0,
        compile: bool | Literal["auto"] = False,
        cuda_graph: bool = True,
    ) -> None:
        super().__init__(compile, cuda_graph)
        self.net, self.optimizer, self.schedule = net, optimizer, schedule
        self.clip_norm = clip_norm
        self.kl_sums = torch.empty(0)

    def compile_break_even(self) -> int | None:
        is_small = isinstance(self.net.cell.attention, NoAttention)  # few operations to fuse
        if is_small and self.device.type == "cpu":
            return None
        return math.ceil(COMPILE_BREAK_EVEN / self.net.num_steps)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer(self.parameters())

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if self.clip_norm is not None:
            clip_each(self.parameters(), self.clip_norm)
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the bound on -log p(x) of images x (B, C, H, W) in [0, 1], in nats per image.

        `bound_nats` (B,) is the sum of `recon_nats` (B,), L_x, and `kl_nats` (B, T), L_z per step.
        """
        eps = torch.randn(self.net.num_steps, len(x), self.net.latent_dim, device=x.device)
        recon, kl = self.replayed(self._terms, self.net, x, eps)
        return {"bound_nats": recon + kl.sum(1), "recon_nats": recon, "kl_nats": kl}

    def _terms(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Return `recon_nats` (B,) and `kl_nats` (B, T), given the noise of all steps."""
        output = self.net(x, eps)
        return bernoulli_nll(output.logits, x), gaussian_kl(output.mu, output.log_sigma).T

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the loss, which is the mean bound of the batch, and its parts for the log."""
        nats = self(batch[0])
        loss = nats["bound_nats"].mean()
        parts = {"recon_nats": nats["recon_nats"].mean(), "kl_nats": nats["kl_nats"].sum(1).mean()}
        return {
            "loss": loss,
            "bound_nats": loss.detach(),
            **{name: value.detach() for name, value in parts.items()},
        }

    def on_validation_epoch_start(self) -> None:
        # sum of the KL term of each step, and the number of images
        self.kl_sums = torch.zeros(self.net.num_steps + 1, device=self.device)

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate(batch[0], "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate(batch[0], "test")

    def on_validation_epoch_end(self) -> None:
        self._log_steps("val")

    def on_test_epoch_end(self) -> None:
        self._log_steps("test")

    def _evaluate(self, x: Tensor, stage: str) -> None:
        # the callback Compile has switched compiling off here; on a CPU it pays for validation too,
        # on a GPU compiling for this batch size takes longer than it saves
        with torch.compiler.set_stance("force_eager" if x.is_cuda else "default"):
            nats = self(x)
        values = {
            "bound_nats": nats["bound_nats"],
            "recon_nats": nats["recon_nats"],
            "kl_nats": nats["kl_nats"].sum(1),
        }
        logged = {f"{stage}/{name}": value.mean() for name, value in values.items()}
        self.log_means(logged, len(x))
        kl = nats["kl_nats"]
        self.kl_sums += torch.cat([kl.sum(0), kl.new_tensor([len(x)])])

    def _log_steps(self, stage: str) -> None:
        """Log the KL term of each step; here, because logging T values takes as long as a batch."""
        *sums, n = self.summed(self.kl_sums)
        steps = {f"{stage}_steps/kl_nats_{t:02d}": kl / n for t, kl in enumerate(sums, 1)}
        self.log_dict(steps, rank_zero_only=True)

    @torch.no_grad()
    def log_weights(self, x: Tensor, noise: torch.Generator) -> Tensor:
        """Return log p(x, z) - log q(z | x) of one random z per image, (B,), in nats.

        Args:
            x: (B, C, H, W) in [0, 1].
            noise: draws eps, on the model's device.
        """
        eps = torch.randn(
            self.net.num_steps, len(x), self.net.latent_dim, generator=noise, device=x.device
        )
        output = self.net(x, eps)
        z = output.mu + output.log_sigma.exp() * eps
        # log p(z) - log q(z | x); the constants cancel
        ratio = (0.5 * (eps.square() - z.square()) + output.log_sigma).sum(dim=(0, 2))
        return ratio - bernoulli_nll(output.logits, x)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Return (T, n, latent_dim) standard normal, drawn on the CPU, on the model's device."""
        return torch.randn(self.net.num_steps, n, self.net.latent_dim, generator=generator).to(
            self.device
        )

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n images (n, C, H, W) in [0, 1]: pixel probabilities after the last step."""
        return torch.cat(
            [self.net.decode(z)[0][-1] for z in self.noise(n, generator).split(500, dim=1)]
        ).sigmoid()

    @torch.no_grad()
    def reconstruct(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the reconstructions of `images` (n, C, H, W) in [0, 1], also in [0, 1]."""
        with torch.compiler.set_stance("force_eager"):  # see `canvases`
            return self.net(
                images.to(self.device), self.noise(len(images), generator)
            ).logits.sigmoid()

    @torch.no_grad()
    def canvases(
        self, n: int, generator: torch.Generator, images: Tensor | None = None
    ) -> Canvases:
        """Return the canvases of n samples, or of the reconstructions of `images` (n, C, H, W)."""
        noise = self.noise(n, generator)
        if images is None:
            logits, gaze = self.net.decode(noise)
            blank = self.net.canvas.transpose(0, 1).expand_as(logits[:1])
            boxes = (
                {"write": box(gaze.write).unflatten(0, (-1, n))} if hasattr(gaze, "write") else {}
            )
            return Canvases(torch.cat([blank, logits]).sigmoid(), boxes)
        images = images.to(self.device)
        # compiling for this batch size takes seconds, too long for a few images
        with torch.compiler.set_stance("force_eager"):
            states = self.net(images, noise, keep=True).states
        frames = torch.stack([state.canvas.transpose(1, 2) for state in states]).sigmoid()
        boxes = {}
        if hasattr(states[0].gaze, "read"):
            boxes["read"] = torch.stack([box(state.gaze.read) for state in states[:-1]])
            boxes["write"] = torch.stack([box(state.gaze.write) for state in states[1:]])
        return Canvases(frames, boxes, images)

    def graphs(self) -> dict[str, tuple[nn.Module, Any]]:
        """Return the net with an example input of one step: a graph of T steps is unreadable."""
        height, channels, width = self.net.canvas.shape
        x = torch.zeros(2, channels, height, width, device=self.device)
        net = copy.deepcopy(self.net)  # eager: a tracer cannot look into a compiled cell
        return {"draw": (net, (x, torch.zeros(1, 2, self.net.latent_dim, device=self.device)))}

    def example_inputs(self) -> dict[str, tuple[nn.Module, Any]]:
        """Return the net with an example input of all steps."""
        net, (x, eps) = self.graphs()["draw"]
        return {"draw": (net, (x, eps.repeat(self.net.num_steps, 1, 1)))}


def box(window: Any) -> Tensor:
    """Return top, left, bottom, right of the outer filter centers, and sigma, (B, 5), in pixels.

    Pixels count from 0.
    """
    mu_y, mu_x = window.mu_y - 1, window.mu_x - 1
    return torch.stack(
        [mu_y[:, 0], mu_x[:, 0], mu_y[:, -1], mu_x[:, -1], window.sigma2[:, 0].sqrt()], dim=1
    )
