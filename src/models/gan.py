"""The GAN family: two players, one fake batch a step. Loss, nets, penalty, clipping, n_critic and EMA are settings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from src.core.types import Fraction, NonNegative, Positive, PositiveInt
from src.losses import gradient_penalty
from src.models.base import Family
from src.nets.init import Init, initialize, spectral_norm


@dataclass
class GANLoss:
    """What the players minimise, and what holds the critic in bounds.

    Args:
        discriminator: (real scores, fake scores) -> scalar.
        generator: (fake scores) -> scalar.
        gradient_penalty: lambda of Gulrajani 2017's penalty, 0 for none; a step computes it once, in float32.
        weight_clip: clamp every weight of the discriminator to +- this after its step (Arjovsky 2017), None for never.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    gradient_penalty: NonNegative = 0.0
    weight_clip: Positive | None = None


@dataclass
class Players:
    """The two nets.

    Args:
        generator: z (B, latent) -> images (B, C, H, W) in [-1, 1].
        discriminator: such images -> raw scores (B, 1).
        init: how both nets' weights are drawn, see `src.nets.init`.
        spectral_norm: bound the discriminator's layers to Lipschitz constant 1 (Miyato 2018).
    """

    generator: nn.Module
    discriminator: nn.Module
    init: Init = "default"
    spectral_norm: bool = False

    def __post_init__(self) -> None:
        initialize(self.generator, self.init)
        initialize(self.discriminator, self.init)
        if self.spectral_norm:
            spectral_norm(self.discriminator)


class GAN(Family):
    """Generator against discriminator (Goodfellow 2014).

    Args:
        net: see `Players`.
        loss: see `GANLoss`.
        optimizer: parameters -> optimiser, called once for each player.
        schedule: progress in [0, 1) -> factor on both learning rates (see `src.optim.schedules`).
        latent: width of z.
        latent_distribution: `uniform` on (-1, 1) or `normal` (0, 1).
        n_critic: discriminator steps for each step of the generator; every batch is one of the discriminator's.
        discriminator_lr: its own rate (two time-scales, Heusel 2017), None for the generator's.
        ema: decay of the generator's moving average, BatchNorm's buffers included, from which samples are then drawn; 0: off.
        num_classes: condition both nets on the images' labels (Mirza 2014): one-hot, they lie behind z, and behind the channels
            of an image as a plane each. None: no labels.
    """

    optimizer_names = ("d_lr", "g_lr")
    refuses: ClassVar = {
        "accumulate_grad_batches": (
            (1,),
            "a GAN steps its two optimizers itself; use data.batch_size",
        ),
        "gradient_clip_val": (
            (None,),
            "a GAN steps its two optimizers itself; model/loss=wgan or wgan_gp bounds its critic",
        ),
    }

    def __init__(
        self,
        net: Players,
        loss: GANLoss,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[float], float],
        latent: PositiveInt = 96,
        latent_distribution: Literal["uniform", "normal"] = "uniform",
        n_critic: PositiveInt = 1,
        discriminator_lr: Positive | None = None,
        ema: Fraction = 0.0,
        num_classes: PositiveInt | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = (
            False  # two optimisers share one forward pass of the generator
        )
        self.generator, self.discriminator = net.generator, net.discriminator
        self.ema = None
        if ema > 0:
            average = AveragedModel(
                net.generator, multi_avg_fn=get_ema_multi_avg_fn(ema), use_buffers=True
            )
            self.ema = average.requires_grad_(False)
        self.loss, self.optimizer, self.schedule = loss, optimizer, schedule
        self.latent, self.latent_distribution = latent, latent_distribution
        self.n_critic, self.discriminator_lr, self.num_classes = (
            n_critic,
            discriminator_lr,
            num_classes,
        )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        rate = {} if self.discriminator_lr is None else {"lr": self.discriminator_lr}
        return [
            self.optimizer(self.discriminator.parameters(), **rate),
            self.optimizer(self.generator.parameters()),
        ]

    def latents(
        self, n: int, generator: torch.Generator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """z (n, latent) on the model's device; drawn on the CPU when `generator` (a CPU one) is given, so alike everywhere.

        Of a conditional GAN (n, latent + num_classes), behind z the `labels`, (n,) or shares (n, num_classes); where none are
        given the classes in turn.
        """
        device = "cpu" if generator is not None else self.device
        draw = torch.rand if self.latent_distribution == "uniform" else torch.randn
        z = draw(n, self.latent, generator=generator, device=device).to(self.device)
        z = z * 2 - 1 if self.latent_distribution == "uniform" else z
        if self.num_classes is None:
            return z
        if labels is None:
            labels = torch.arange(n) % self.num_classes
        return torch.cat([z, self.shares(labels.to(self.device))], 1)

    def shares(self, labels: Tensor) -> Tensor:
        """Labels (n,) one-hot, (n, num_classes); shares, of mixed images, as they are."""
        return (
            F.one_hot(labels, cast(int, self.num_classes)).to(torch.float32)
            if labels.ndim == 1
            else labels
        )

    def critic(self, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """Images (B, C, H, W) in [-1, 1] -> scores (B, 1): the discriminator, told the `labels` where it is conditional."""
        if self.num_classes is None:
            return self.discriminator
        planes = self.shares(labels)[:, :, None, None]
        return lambda x: self.discriminator(torch.cat([x, planes.expand(-1, -1, *x.shape[2:])], 1))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """One step of the discriminator and, every n_critic batches, one of the generator, from one batch of fakes.

        Returns what there is to log: losses, mean scores, the penalty and, at logging steps, gradient norms.
        """
        real, critic = batch[0] * 2 - 1, self.critic(batch[1])  # (B, C, H, W) in [-1, 1]
        seen = (
            self.trainer.current_epoch * int(self.trainer.num_training_batches) + batch_idx
        )  # batches before this one
        generator_turn = (seen + 1) % self.n_critic == 0
        logging = (seen + 1) % cast(Any, self.trainer).log_every_n_steps == 0
        d_optimizer, g_optimizer = cast(Any, self.optimizers())

        with torch.set_grad_enabled(
            generator_turn
        ):  # a fake that only the discriminator sees needs no graph
            fake = self.generator(self.latents(len(real), labels=batch[1]))

        real_scores, fake_scores = critic(real).float(), critic(fake.detach()).float()
        d_loss = self.loss.discriminator(real_scores, fake_scores)
        outputs = {
            "d_loss": d_loss.detach(),
            "d_real": real_scores.mean(),
            "d_fake": fake_scores.mean(),
        }
        if self.loss.gradient_penalty > 0:
            with torch.autocast(
                self.device.type, enabled=False
            ):  # a second derivative in bf16 is mostly noise
                mix = torch.rand(len(real), 1, 1, 1, device=self.device)
                penalty = gradient_penalty(critic, real, fake.float(), mix)
            d_loss = d_loss + self.loss.gradient_penalty * penalty
            outputs["penalty"] = penalty
        d_optimizer.zero_grad()
        self.manual_backward(d_loss)
        if logging:
            outputs["d_grad_norm"] = grad_norm(self.discriminator)
        d_optimizer.step()
        if self.loss.weight_clip is not None:
            clip_weights(self.discriminator, self.loss.weight_clip)

        if generator_turn:
            self.discriminator.requires_grad_(
                False
            )  # its gradients in the generator's step would be thrown away
            g_loss = self.loss.generator(critic(fake).float())
            g_optimizer.zero_grad()
            self.manual_backward(g_loss)
            self.discriminator.requires_grad_(True)
            outputs["g_loss"] = g_loss
            if logging:
                outputs["g_grad_norm"] = grad_norm(self.generator)
            g_optimizer.step()
            if self.ema is not None:
                self.ema.update_parameters(self.generator)

        return {name: value.detach() for name, value in outputs.items()}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._judge(*batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._judge(*batch, "test")

    def _judge(self, images: Tensor, labels: Tensor, stage: str) -> None:
        """How the discriminator takes images it never saw: far under its training loss means that it learned by heart."""
        critic, made = self.critic(labels), self.sampler(self.latents(len(images), labels=labels))
        real, fake = critic(images * 2 - 1).float(), critic(made).float()
        values = {
            "d_loss": self.loss.discriminator(real, fake),
            "d_real": real.mean(),
            "d_fake": fake.mean(),
        }
        self.log_dict(
            {f"{stage}/{name}": value for name, value in values.items()},
            batch_size=len(images),
            sync_dist=True,
        )

    @property
    def sampler(self) -> nn.Module:
        """The net that samples are drawn from: the moving average where there is one, else the generator."""
        return self.generator if self.ema is None else self.ema.module

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """z (n, latent) -> images (n, C, H, W) in [0, 1], float32, in eval mode and in chunks; leaves the mode as it was."""
        training = self.sampler.training
        self.sampler.eval()
        images = torch.cat([self.sampler(chunk.to(self.device)).float() for chunk in z.split(500)])
        self.sampler.train(training)
        return (images + 1) / 2

    def sample(self, n: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """n images (n, C, H, W) in [0, 1], of `labels` as `latents` takes them; the same for the same (CPU) generator state on
        every device."""
        return self.decode(self.latents(n, generator, labels))

    def interpolate(self, n: int, steps: int, generator: torch.Generator) -> Tensor:
        """n straight lines of `steps` images between pairs of latents, (n * steps, C, H, W) in [0, 1], a line after a line."""
        start, end = self.latents(n, generator), self.latents(n, generator)
        weights = torch.linspace(0, 1, steps, device=self.device).view(1, steps, 1)
        return self.decode(torch.lerp(start.unsqueeze(1), end.unsqueeze(1), weights).flatten(0, 1))

    def graphs(self) -> dict[str, tuple[nn.Module, Any]]:
        """Each net with an input to trace it by, for TensorBoard's graph tab."""
        z = torch.zeros_like(self.latents(2))
        shown = torch.zeros(2, self.num_classes or 0, *self.decode(z).shape[2:], device=self.device)
        return {
            "generator": (self.generator, z),
            "discriminator": (self.discriminator, torch.cat([self.decode(z), shown], 1)),
        }


def grad_norm(net: nn.Module) -> Tensor:
    """The L2 norm over all gradients of `net`, a scalar."""
    return nn.utils.get_total_norm([p.grad for p in net.parameters() if p.grad is not None])


@torch.no_grad()
def clip_weights(net: nn.Module, limit: float) -> None:
    """Clamp every parameter to [-limit, limit] in place (Arjovsky 2017, algorithm 1, line 7)."""
    parameters: list[Tensor] = list(net.parameters())
    torch._foreach_clamp_min_(parameters, -limit)
    torch._foreach_clamp_max_(parameters, limit)
