"""CycleGAN (Zhu 2017): two translators that undo each other, and two discriminators."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.core.types import ImageSize, NonNegative, NonNegativeInt, PositiveInt, height_width
from src.losses import LeastSquares, cycle_consistency
from src.metrics.color import Map, color_maps
from src.metrics.similarity import psnr, ssim
from src.models.base import Family

# batches from which compiling saves time, on two CPU cores: docs/results/speed.md
COMPILE_BREAK_EVEN = 900


class ImagePool(nn.Module):
    """A buffer of earlier fakes, so that a discriminator does not forget them (Zhu, section 4).

    Until the pool is full, each fake is stored and passed on. After that, half of the fakes are
    passed on, and the others are exchanged for a stored one (Shrivastava 2017). No size depends on
    what was drawn, so nothing here waits for a GPU.

    Args:
        size: number of stored images; 0: every fake is passed on.
        shape: shape of an image, (C, H, W).
    """

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.images: Tensor
        self.register_buffer("images", torch.zeros(size, *shape))
        self.filled = 0

    @torch.no_grad()
    def forward(self, fakes: Tensor) -> Tensor:
        """Take fakes (B, C, H, W), and return the same number, some of them older."""
        passed, size = fakes.clone(), len(self.images)
        new = min(size - self.filled, len(fakes))
        self.images[self.filled : self.filled + new] = fakes[:new].float()
        self.filled += new

        # Offer each late fake a place of its own, so that each stored image leaves once
        late = slice(new, new + min(size, len(fakes) - new))
        places = torch.rand(size, device=fakes.device).argsort()[: len(fakes[late])]
        given, stored = fakes[late].float(), self.images[places]
        swap = torch.rand(len(given), 1, 1, 1, device=fakes.device) < 0.5
        passed[late] = torch.where(swap, stored, given).to(fakes.dtype)
        self.images[places] = torch.where(swap, given, stored)
        return passed

    def get_extra_state(self) -> Tensor:
        """Return the number of stored images, for checkpoints."""
        return torch.tensor(self.filled)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the number of stored images."""
        self.filled = int(state)


class CycleGAN(Family):
    """Learn G: A -> B and F: B -> A from unpaired images.

    Args:
        generator, discriminator: () -> a network, each called twice (see `src.nets.cyclegan`).
        optimizer: parameters -> optimizer; called for both translators together, and for both
            discriminators.
        schedule: progress in [0, 1) -> factor on both learning rates. The paper's is constant, then
            falls linearly to 0.
        channels, size: number of channels, and side or (height, width), of the images.
        lambda_cycle: weight of the cycle-consistency losses.
        lambda_identity: weight of the identity losses, relative to `lambda_cycle`; 0: none.
        pool_size: fakes that the `ImagePool` of each discriminator holds.
        compile: fuse the operations of the networks while training, see `Family`.
    """

    takes = "two domains of images"
    optimizer_names = ("d_lr", "g_lr")
    compilable = ("g", "f", "d_a", "d_b")
    compared = ("A", "A to B", "A to B to A", "B", "B to A", "B to A to B")
    key_metrics = ("cycle_b", "cycle_a", "psnr_b", "ssim_b", "cycle_loss")
    supports: ClassVar = {
        "accumulate_grad_batches": (
            (1,),
            "its manual optimization cannot accumulate gradients; increase data.batch_size instead",
        ),
        "gradient_clip_val": (
            (None,),
            "it uses manual optimization, so Lightning cannot clip gradients",
        ),
    }
    memory_format = torch.contiguous_format  # instance norms work map by map

    def __init__(
        self,
        generator: Callable[[], nn.Module],
        discriminator: Callable[[], nn.Module],
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[float], float],
        channels: PositiveInt,
        size: ImageSize,
        lambda_cycle: NonNegative = 10.0,
        lambda_identity: NonNegative = 0.5,
        pool_size: NonNegativeInt = 50,
        compile: bool | Literal["auto"] = False,
    ) -> None:
        super().__init__(compile)
        self.automatic_optimization = False
        self.g, self.f = generator(), generator()
        self.d_a, self.d_b = discriminator(), discriminator()
        self.optimizer, self.schedule = optimizer, schedule
        self.lambda_cycle, self.lambda_identity = lambda_cycle, lambda_identity
        self.loss = LeastSquares()
        shape = (channels, *height_width(size))
        self.pool_a, self.pool_b = ImagePool(pool_size, shape), ImagePool(pool_size, shape)
        self.color_maps: dict[str, dict[str, Map]] = {}  # by target domain, by name

    def compile_break_even(self) -> int:
        return COMPILE_BREAK_EVEN

    def setup(self, stage: str) -> None:
        """Fit color maps as a baseline, if the data hold true translations."""
        data = self.datamodule
        if data.paired and not self.color_maps:
            rows_a, rows_b = (rows.unique() for rows in data.train.rows.unbind(1))
            a, b = data.train.a.images[rows_a], data.train.b.images[rows_b]
            self.color_maps = {"b": color_maps(a, b), "a": color_maps(b, a)}

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        pairs = ((self.d_a, self.d_b), (self.g, self.f))
        return [self.optimizer([p for net in pair for p in net.parameters()]) for pair in pairs]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Train both translators, then both discriminators.

        No network depends on the rest of its batch. So the images to translate and those for the
        identity loss go through each translator together.

        Args:
            batch: images of A and of B, (B, C, H, W) in [0, 1].
            batch_idx: not used.

        Returns:
            The losses.
        """
        a, b = batch[0] * 2 - 1, batch[1] * 2 - 1
        d_optimizer, g_optimizer = self.own_optimizers

        # 1. translators: fool the discriminators, undo each other, keep images of the target domain
        self._set_discriminators_trainable(False)  # their gradients would not be used
        fake_a, fake_b, losses = self._translator_losses(a, b)
        g_loss = losses["fool"] + self.lambda_cycle * (
            losses["cycle"] + self.lambda_identity * losses["identity"]
        )
        g_optimizer.zero_grad()
        self.manual_backward(g_loss)
        g_optimizer.step()

        # 2. discriminators: tell real images from fakes, some of them older
        self._set_discriminators_trainable(True)
        old_a, old_b = self.pool_a(fake_a.detach()), self.pool_b(fake_b.detach())
        loss_a = self._discriminator_loss(self.d_a, a, old_a)
        d_loss = loss_a + self._discriminator_loss(self.d_b, b, old_b)
        d_optimizer.zero_grad()
        self.manual_backward(d_loss)
        d_optimizer.step()
        return {
            "g_loss": g_loss.detach(),
            "d_loss": d_loss.detach(),
            "cycle_loss": losses["cycle"].detach(),
            "identity_loss": losses["identity"].detach(),
        }

    def _set_discriminators_trainable(self, trainable: bool) -> None:
        for net in (self.d_a, self.d_b):
            net.requires_grad_(trainable)

    def _translator_losses(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the fakes of A and of B, and the terms of the translators' loss."""
        if self.lambda_identity > 0:
            fake_b, same_b = self.g(torch.cat([a, b])).chunk(2)
            fake_a, same_a = self.f(torch.cat([b, a])).chunk(2)
            identity = cycle_consistency(a, same_a) + cycle_consistency(b, same_b)
        else:
            fake_b, fake_a, identity = self.g(a), self.f(b), a.new_zeros(())
        cycle = cycle_consistency(a, self.f(fake_b)) + cycle_consistency(b, self.g(fake_a))
        # Zhu 2017, section 4: only the discriminators' objective is halved, so undo the 1/2 here
        fool = 2 * (
            self.loss.generator(None, self.d_b(fake_b).float())
            + self.loss.generator(None, self.d_a(fake_a).float())
        )
        return fake_a, fake_b, {"fool": fool, "cycle": cycle, "identity": identity}

    def _discriminator_loss(self, discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        logits = discriminator(torch.cat([real, fake.to(real.dtype)])).float()
        real_logits, fake_logits = logits.chunk(2)
        return self.loss.discriminator(real_logits, fake_logits)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure(batch, "test")

    def _measure(self, batch: tuple[Tensor, Tensor], stage: str) -> None:
        """Log the cycle distances in [0, 1], for as many images as each domain has.

        If the data hold true translations, also log PSNR (dB) and SSIM of the translations, of the
        untranslated images, and of the color maps.
        """
        a, b = batch
        made_b, made_a = self.translate(a, "b"), self.translate(b, "a")
        self._log_means(stage, len(a), cycle_a=cycle_consistency(a, self.translate(made_b, "a")))
        self._log_means(stage, len(b), cycle_b=cycle_consistency(b, self.translate(made_a, "b")))
        if self.datamodule.paired:
            mapped = [
                (f"{to}_{name}", change(image), true)
                for to, image, true in (("b", a, b), ("a", b, a))
                for name, change in self.color_maps[to].items()
            ]
            rows = [("b", made_b, b), ("a", made_a, a), ("untranslated", a, b), *mapped]
            for name, made, true in rows:
                values = {f"psnr_{name}": psnr(made, true), f"ssim_{name}": ssim(made, true)}
                self._log_means(stage, len(a), **values)

    def _log_means(self, stage: str, n: int, **values: Tensor) -> None:
        """Log means over `n` images. With several processes, each must log the same names."""
        if n or self.trainer.world_size > 1:
            named = {f"{stage}/{name}": value if n else 0.0 for name, value in values.items()}
            self.log_means(named, n)

    @torch.no_grad()
    def translate(self, images: Tensor, to: str = "b") -> Tensor:
        """Translate images.

        Args:
            images: (N, C, H, W) in [0, 1], of any size from 5 x 5.
            to: the target domain, a or b.

        Returns:
            (N, C, H, W) float32 in [0, 1].

        Raises:
            ValueError: an image is smaller than 5 x 5.
        """
        net = self.g if to == "b" else self.f
        height, width = images.shape[2:]
        # the residual blocks see a quarter of the image; reflection padding needs 2 pixels of that
        if min(height, width) < 5:
            raise ValueError(f"an image of {width} x {height} is too small: it needs 5 x 5")
        x = F.pad(images * 2 - 1, (0, -width % 4, 0, -height % 4), mode="replicate").to(self.device)
        made = torch.cat([net(part).float() for part in x.split(64)]) if len(x) else x
        return (made[:, :, :height, :width] + 1) / 2

    def compare(self, a: Tensor, b: Tensor, generator: torch.Generator) -> Tensor:
        """Return rows of six images (n, 6, C, H, W): A, G(A), F(G(A)), B, F(B), G(F(B)).

        Args:
            a, b: images of each domain, (n, C, H, W) in [0, 1].
            generator: not used.
        """
        a, b = a.to(self.device), b.to(self.device)
        made_b, made_a = self.translate(a, "b"), self.translate(b, "a")
        return torch.stack(
            [a, made_b, self.translate(made_b, "a"), b, made_a, self.translate(made_a, "b")], 1
        )

    def graphs(self) -> dict[str, tuple[nn.Module, Any]]:
        """Return one translator and one discriminator, each with two blank images as input."""
        x = torch.zeros(2, *self.pool_a.images.shape[1:], device=self.device)
        return {"generator": (self.g, x), "discriminator": (self.d_b, x)}
