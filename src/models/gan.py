"""GANs: a generator and a discriminator train on the same batch of fake images.

Loss, networks, gradient penalty, weight clipping, n_critic and EMA are settings.
"""

import logging
from collections.abc import Callable
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.core.progress import is_logging_step, progress
from src.core.types import Fraction, Positive, PositiveInt
from src.losses import GANLoss, gradient_penalty
from src.models.base import Family
from src.nets.average import moving_average
from src.nets.gan import Networks
from src.nets.latents import straight_walks
from src.optim.clipping import clip_weights, grad_norm

log = logging.getLogger(__name__)


class GAN(Family):
    """Generative adversarial network (Goodfellow 2014).

    Args:
        net: see `src.nets.gan.Networks`.
        loss: see `src.losses.GANLoss`.
        optimizer: parameters -> optimizer, called once for each network.
        schedule: progress in [0, 1) -> factor on both learning rates, see `src.optim.schedules`.
        latent_dim: length of z.
        latent_distribution: `uniform` on (-1, 1) or `normal` (0, 1).
        n_critic: discriminator steps per generator step. Every batch trains the discriminator.
        discriminator_lr: learning rate of the discriminator (two time scales, Heusel 2017), None
            for the generator's.
        ema: decay of the moving average of the generator, BatchNorm buffers included; samples are
            drawn from it. 0: no average.
        num_classes: condition both networks on class labels (Mirza 2014). One-hot labels are
            appended to z, and to the image as one constant plane per class. None: no labels (in a
            config, null is the number of classes of the data: leave it out for no labels).
        compile: fuse the operations of both networks while training, see `Family`.
        cuda_graph: replay the kernels of a training step on a GPU, see `Family.replayed`.
    """

    optimizer_names = ("d_lr", "g_lr")
    compilable = ("generator", "discriminator")
    key_metrics = ("fid_own", "precision", "recall", "fid_inception", "coverage", "least_class")
    supports: ClassVar = {
        "accumulate_grad_batches": (
            (1,),
            "its manual optimization cannot accumulate gradients; increase data.batch_size instead",
        ),
        "gradient_clip_val": (
            (None,),
            "it uses manual optimization, so Lightning cannot clip gradients; to constrain the "
            "discriminator, use model/loss=wgan or wgan_gp",
        ),
    }

    def __init__(
        self,
        net: Networks,
        loss: GANLoss,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[float], float],
        latent_dim: PositiveInt = 96,
        latent_distribution: Literal["uniform", "normal"] = "uniform",
        n_critic: PositiveInt = 1,
        discriminator_lr: Positive | None = None,
        ema: Fraction = 0.0,
        num_classes: PositiveInt | None = None,
        compile: bool | Literal["auto"] = False,
        cuda_graph: bool = False,
    ) -> None:
        super().__init__(compile, cuda_graph)
        self.automatic_optimization = False  # both optimizers share one forward of the generator
        self.generator, self.discriminator = net.generator, net.discriminator
        self.ema = moving_average(net.generator, ema)
        self.loss, self.optimizer, self.schedule = loss, optimizer, schedule
        self.latent_dim, self.latent_distribution = latent_dim, latent_distribution
        self.n_critic, self.discriminator_lr = n_critic, discriminator_lr
        self.num_classes = num_classes

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        d_lr = {} if self.discriminator_lr is None else {"lr": self.discriminator_lr}
        return [
            self.optimizer(self.discriminator.parameters(), **d_lr),
            self.optimizer(self.generator.parameters()),
        ]

    def latents(
        self, n: int, generator: torch.Generator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Return random z (n, latent_dim) on the model's device.

        With `generator`, a CPU generator, z is drawn on the CPU, so it is the same everywhere. For
        a conditional GAN the result is (n, latent_dim + num_classes): one-hot `labels` (n,), or
        soft labels (n, num_classes), come after z. Without `labels` the classes take turns.
        """
        device = "cpu" if generator is not None else self.device
        draw = torch.rand if self.latent_distribution == "uniform" else torch.randn
        z = draw(n, self.latent_dim, generator=generator, device=device).to(self.device)
        z = z * 2 - 1 if self.latent_distribution == "uniform" else z
        if self.num_classes is None:
            return z
        if labels is None:
            labels = torch.arange(n) % self.num_classes
        return torch.cat([z, self.soft_labels(labels.to(self.device))], 1)

    def on_train_start(self) -> None:
        if (batches := progress(self.trainer).total) < self.n_critic:
            log.warning(
                "model.n_critic=%d is more than the %d batches of this run: the generator is not "
                "trained",
                self.n_critic,
                batches,
            )

    def soft_labels(self, labels: Tensor) -> Tensor:
        """Return labels (n,) as one-hot (n, num_classes); labels of that shape stay as they are."""
        if labels.ndim == 2:
            return labels
        return F.one_hot(labels, cast(int, self.num_classes)).to(torch.float32)

    def discriminator_given(self, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the discriminator as a function of images (B, C, H, W) in [-1, 1] alone.

        A conditional discriminator also sees `labels`; others ignore them.
        """
        if self.num_classes is None:
            return self.discriminator
        planes = self.soft_labels(labels)[:, :, None, None]
        return lambda x: self.discriminator(torch.cat([x, planes.expand(-1, -1, *x.shape[2:])], 1))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Train the discriminator and, every n_critic batches, the generator.

        Goodfellow 2014, algorithm 1, except that both steps use the same fake images. Returns the
        losses, the mean logits, the gradient penalty and, when the trainer logs, gradient norms.
        """
        real_images, labels = batch[0] * 2 - 1, batch[1]  # (B, C, H, W) in [-1, 1]
        number = progress(self.trainer).batch + 1  # counted from 1
        train_generator = number % self.n_critic == 0
        # a gradient scaler (16-mixed) scales gradients until the optimizer steps
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        log_norms = scaler is None and is_logging_step(self.trainer, number)

        # Draw z and generate fake images, through which only the generator's step backpropagates
        with torch.set_grad_enabled(train_generator):
            z = self.latents(len(real_images), labels=labels)
            fake_images = self.replayed(self.generator, self.generator, z)

        outputs = self._discriminator_step(real_images, fake_images, labels, log_norms)
        if train_generator:
            outputs |= self._generator_step(real_images, fake_images, labels, log_norms)
        return {name: value.detach() for name, value in outputs.items()}

    def _discriminator_step(
        self, real_images: Tensor, fake_images: Tensor, labels: Tensor, log_norms: bool
    ) -> dict[str, Tensor]:
        """Update the discriminator once; return its loss and the other metrics to log."""
        optimizer, _ = self.own_optimizers

        # Compute the loss, with the gradient penalty if there is one
        batch = real_images, fake_images.detach(), labels
        outputs: dict[str, Tensor] = self.replayed(
            self._discriminator_terms, self.discriminator, *batch
        )
        loss = outputs["d_loss"]
        if self.loss.gradient_penalty > 0:
            penalty = self.replayed(self._penalty, self.discriminator, *batch)
            loss = loss + self.loss.gradient_penalty * penalty
            outputs["penalty"] = penalty

        # Backpropagate and update the discriminator
        optimizer.zero_grad()
        self.manual_backward(loss)
        if log_norms:
            outputs["d_grad_norm"] = grad_norm(self.discriminator.parameters())
        optimizer.step()

        # Clip the weights (Wasserstein GAN)
        if self.loss.weight_clip is not None:
            clip_weights(self.discriminator, self.loss.weight_clip)
        return outputs

    def _discriminator_terms(
        self, real_images: Tensor, fake_images: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Return the discriminator's loss, without the gradient penalty, and its mean logits."""
        discriminator = self.discriminator_given(labels)
        real_logits = discriminator(real_images).float()
        fake_logits = discriminator(fake_images).float()
        return {
            "d_loss": self.loss.discriminator(real_logits, fake_logits),
            "d_real": real_logits.detach().mean(),
            "d_fake": fake_logits.detach().mean(),
        }

    def _penalty(self, real_images: Tensor, fake_images: Tensor, labels: Tensor) -> Tensor:
        """Return the gradient penalty, in float32: a second derivative in bf16 is mostly noise."""
        with torch.autocast(self.device.type, enabled=False):
            mix = torch.rand(len(real_images), 1, 1, 1, device=self.device)
            discriminator = self.discriminator_given(labels)
            return gradient_penalty(discriminator, real_images, fake_images.float(), mix)

    def _generator_step(
        self, real_images: Tensor, fake_images: Tensor, labels: Tensor, log_norms: bool
    ) -> dict[str, Tensor]:
        """Update the generator once; return its loss and the other metrics to log."""
        _, optimizer = self.own_optimizers

        # Freeze the discriminator: its gradients would be thrown away
        self.discriminator.requires_grad_(False)

        # Compute the loss, backpropagate and update the generator
        images = real_images, fake_images
        loss: Tensor = self.replayed(self._generator_loss, self.discriminator, *images, labels)
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.discriminator.requires_grad_(True)
        outputs = {"g_loss": loss}
        if log_norms:
            outputs["g_grad_norm"] = grad_norm(self.generator.parameters())
        optimizer.step()

        # Update the moving average of the generator
        if self.ema is not None:
            self.ema.update(self.generator)
        return outputs

    def _generator_loss(self, real_images: Tensor, fake_images: Tensor, labels: Tensor) -> Tensor:
        """Return the generator's loss; the logits of real images are computed only if it asks."""
        discriminator = self.discriminator_given(labels)
        real_logits = None
        if self.loss.generator_needs_real_logits:
            real_logits = discriminator(real_images).float()
        return self.loss.generator(real_logits, discriminator(fake_images).float())

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate(*batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate(*batch, "test")

    def _evaluate(self, images: Tensor, labels: Tensor, stage: str) -> None:
        """Log the discriminator's loss and mean logits on images that it never trained on.

        A loss far above the training loss means that the discriminator has overfitted.
        """
        fake_images = self.generator_for_sampling(self.latents(len(images), labels=labels))
        values = self._discriminator_terms(images * 2 - 1, fake_images, labels)
        self.log_means({f"{stage}/{name}": value for name, value in values.items()}, len(images))

    @property
    def generator_for_sampling(self) -> nn.Module:
        """The moving average of the generator if there is one, else the generator itself."""
        return self.generator if self.ema is None else self.ema.module

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Return the images of z (n, latent_dim), (n, C, H, W) in [0, 1], float32.

        Runs in eval mode and in chunks, and restores the mode afterwards.
        """
        net = self.generator_for_sampling
        training = net.training
        net.eval()
        images = torch.cat([net(chunk.to(self.device)).float() for chunk in z.split(500)])
        net.train(training)
        return (images + 1) / 2

    def sample(self, n: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """Return n images (n, C, H, W) in [0, 1], of the classes `labels` if given.

        The same (CPU) generator state gives the same images on every device.
        """
        return self.decode(self.latents(n, generator, labels))

    def interpolate(self, n: int, steps: int, generator: torch.Generator) -> Tensor:
        """Return n walks of `steps` images between pairs of z, (n * steps, C, H, W) in [0, 1].

        A walk is a straight line in latent space; the images of one walk are consecutive.
        """
        start, end = self.latents(n, generator), self.latents(n, generator)
        return self.decode(straight_walks(start, end, steps))

    def graphs(self) -> dict[str, tuple[nn.Module, Any]]:
        """Return each network with an example input, for TensorBoard's graph tab."""
        z = torch.zeros_like(self.latents(2))
        images = self.decode(z)
        planes = images.new_zeros(2, self.num_classes or 0, *images.shape[2:])
        return {
            "generator": (self.generator, z),
            "discriminator": (self.discriminator, torch.cat([images, planes], 1)),
        }
