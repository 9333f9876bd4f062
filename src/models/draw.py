"""DRAW as a variational auto-encoder: the bound, its training, drawing from the prior, and what there is to watch."""

import copy
import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from src.core.errors import UserError
from src.core.types import Positive
from src.losses import bernoulli_nll, gaussian_kl
from src.models.base import Family
from src.nets.draw import Draw
from src.viz.grids import Canvases


class DRAW(Family):
    """Deep recurrent attentive writer (Gregor 2015).

    Args:
        net: see `src.nets.draw.Draw`.
        optimizer: parameters -> optimiser.
        schedule: progress in [0, 1) -> factor on the learning rate (see `src.optim.schedules`).
        clip_norm: each parameter's gradient is scaled down to this L2 norm, None for never. (trainer.gradient_clip_val bounds
            the norm over all of them.)
        compile: fuse the cell by torch.compile, eager else. Raises UserError where there is no C++ compiler.
    """

    def __init__(
        self,
        net: Draw,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[float], float],
        clip_norm: Positive | None = 5.0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.net, self.optimizer, self.schedule, self.clip_norm = (
            net,
            optimizer,
            schedule,
            clip_norm,
        )
        if compile:
            compilers = (os.environ.get("CXX"), "g++", "clang++", "c++")
            if not any(shutil.which(name) for name in compilers if name):
                raise UserError(
                    "model.compile=true needs a C++ compiler, g++ or clang++; model.compile=false goes without"
                )
            net.cell.compile(dynamic=False)

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
        """The bound on -log p(x) of images x (B, C, H, W) in [0, 1] and its parts, in nats an image.

        Returns `bound_nats`, `recon_nats` (L_x), both (B,), and `kl_nats` (B, T), a step's share of L_z each.
        """
        eps = torch.randn(self.net.steps, len(x), self.net.latent, device=x.device)
        paths = self.net(x, eps)
        recon, kl = bernoulli_nll(paths.logits, x), gaussian_kl(paths.mu, paths.log_sigma).T
        return {"bound_nats": recon + kl.sum(1), "recon_nats": recon, "kl_nats": kl}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Returns the loss, the bound's mean over the batch, and its parts to log."""
        nats = self(batch[0])
        loss = nats["bound_nats"].mean()
        parts = {"recon_nats": nats["recon_nats"].mean(), "kl_nats": nats["kl_nats"].sum(1).mean()}
        return {
            "loss": loss,
            "bound_nats": loss.detach(),
            **{name: value.detach() for name, value in parts.items()},
        }

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure(batch[0], "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure(batch[0], "test")

    def _measure(self, x: Tensor, stage: str) -> None:
        nats = self(x)
        values = {
            "bound_nats": nats["bound_nats"],
            "recon_nats": nats["recon_nats"],
            "kl_nats": nats["kl_nats"].sum(1),
        }
        logged = {f"{stage}/{name}": value.mean() for name, value in values.items()}
        logged |= {
            f"{stage}_steps/kl_nats_{t:02d}": kl for t, kl in enumerate(nats["kl_nats"].mean(0), 1)
        }
        self.log_dict(logged, batch_size=len(x), sync_dist=True)

    @torch.no_grad()
    def log_weights(self, x: Tensor, noise: torch.Generator) -> Tensor:
        """log p(x, z) - log q(z | x) with z = mu + sigma eps, (B,): what the importance-weighted estimate averages.

        Args:
            x: (B, C, H, W) in [0, 1].
            noise: of eps, on the model's device.
        """
        eps = torch.randn(self.net.steps, len(x), self.net.latent, generator=noise, device=x.device)
        paths = self.net(x, eps)
        z = paths.mu + paths.log_sigma.exp() * eps
        ratio = (0.5 * (eps.square() - z.square()) + paths.log_sigma).sum(
            dim=(0, 2)
        )  # log p(z) - log q(z | x)
        return ratio - bernoulli_nll(paths.logits, x)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """(T, n, latent) standard normal on the model's device; the same for the same (CPU) generator state everywhere."""
        return torch.randn(self.net.steps, n, self.net.latent, generator=generator).to(self.device)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n images (n, C, H, W) in [0, 1] from the prior: the pixels' probabilities at the last step."""
        return torch.cat(
            [self.net.decode(z)[0][-1] for z in self.noise(n, generator).split(500, dim=1)]
        ).sigmoid()

    @torch.no_grad()
    def canvases(
        self, n: int, generator: torch.Generator, images: Tensor | None = None
    ) -> Canvases:
        """How n samples of the prior grow, or how `images` (n, C, H, W) in [0, 1] are reconstructed."""
        noise = self.noise(n, generator)
        if images is None:
            logits, gaze = self.net.decode(noise)
            blank = self.net.canvas.transpose(0, 1).expand_as(logits[:1])
            boxes = (
                {"write": box(gaze.write).unflatten(0, (-1, n))} if hasattr(gaze, "write") else {}
            )
            return Canvases(torch.cat([blank, logits]).sigmoid(), boxes)
        images = images.to(self.device)
        with torch.compiler.set_stance(
            "force_eager"
        ):  # a few images are not worth seconds of compiling for their number
            states = self.net(images, noise, keep=True).states
        frames = torch.stack([state.canvas.transpose(1, 2) for state in states]).sigmoid()
        boxes = {}
        if hasattr(states[0].gaze, "read"):
            boxes["read"] = torch.stack([box(state.gaze.read) for state in states[:-1]])
            boxes["write"] = torch.stack([box(state.gaze.write) for state in states[1:]])
        return Canvases(frames, boxes, images)

    def graphs(self) -> dict[str, tuple[nn.Module, Any]]:
        """The net with two blank images and the noise of a single step: T of them would be a graph that nobody can read."""
        height, channels, width = self.net.canvas.shape
        x = torch.zeros(2, channels, height, width, device=self.device)
        net = copy.deepcopy(
            self.net
        )  # which leaves the compiled cell behind: no tracer looks into it
        return {"draw": (net, (x, torch.zeros(1, 2, self.net.latent, device=self.device)))}


def box(window: Any) -> Tensor:
    """A window's (B, 5): top, left, bottom, right of its outermost filters' centres and sigma, in pixels from 0."""
    mu_y, mu_x = window.mu_y - 1, window.mu_x - 1
    return torch.stack(
        [mu_y[:, 0], mu_x[:, 0], mu_y[:, -1], mu_x[:, -1], window.sigma2[:, 0].sqrt()], dim=1
    )


@torch.no_grad()
def clip_each(parameters: Any, norm: float) -> None:
    """Scale each gradient whose L2 norm is greater than `norm` down to it, in place."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))
    torch._foreach_mul_(gradients, list((norm / norms).clamp(max=1.0).unbind()))
