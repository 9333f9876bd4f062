"""CycleGAN (Zhu 2017): two translators that must undo each other, each against a discriminator of its target domain."""

from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from src.core.types import ImageSize, NonNegative, NonNegativeInt, PositiveInt
from src.losses import LeastSquares, cycle_consistency
from src.metrics.color import Map, color_maps
from src.metrics.precision import float64
from src.models.base import Family


class ImagePool(nn.Module):
    """The last fakes, so that a discriminator does not forget what it learned of earlier ones (Shrivastava 2017; Zhu, sec. 4).

    Each fake that comes is put in while there is room. Later it is passed on as it is, or, half the time, put in the place of
    an old one, which is passed on instead.

    Args:
        size: images that it holds; 0: each fake is passed on.
        shape: of an image, (C, H, W).
    """

    def __init__(self, size: ImageSize, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.images: Tensor
        self.filled: Tensor
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.tensor(0))

    @torch.no_grad()
    def forward(self, fakes: Tensor) -> Tensor:
        """Fakes (B, C, H, W) -> as many, some of them older."""
        passed, size = fakes.clone(), len(self.images)
        filled = int(self.filled)
        new = min(size - filled, len(fakes))
        self.images[filled : filled + new] = fakes[:new].float()
        self.filled += new
        late = torch.arange(new, len(fakes), device=fakes.device)
        swapped = late[torch.rand(len(late), device=fakes.device) < 0.5][:size]
        places = torch.randperm(size, device=fakes.device)[
            : len(swapped)
        ]  # each old image leaves once
        passed[swapped] = self.images[places].to(fakes.dtype)
        self.images[places] = fakes[swapped].float()
        return passed


class CycleGAN(Family):
    """G: A -> B and F: B -> A, learned from images that are not paired.

    Args:
        generator, discriminator: () -> a net, each called twice (see `src.nets.cyclegan`).
        optimizer: parameters -> optimiser, called for both translators together and for both discriminators.
        schedule: progress in [0, 1) -> factor on both learning rates; the paper's is constant, then linear down to 0.
        channels, size: of the images.
        lambda_cycle: weight of the cycle-consistency losses.
        lambda_identity: weight of the identity losses, relative to `lambda_cycle`; 0: none.
        pool_size: fakes that each discriminator's `ImagePool` holds.
    """

    takes = "two domains of images"
    optimizer_names = ("d_lr", "g_lr")
    refuses: ClassVar = {
        "accumulate_grad_batches": (
            (1,),
            "CycleGAN steps its two optimizers itself; use data.batch_size",
        ),
        "gradient_clip_val": ((None,), "CycleGAN steps its two optimizers itself"),
    }
    memory_format = torch.contiguous_format  # an instance norm goes map by map

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
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.g, self.f = generator(), generator()
        self.d_a, self.d_b = discriminator(), discriminator()
        self.optimizer, self.schedule, self.lambda_cycle, self.lambda_identity = (
            optimizer,
            schedule,
            lambda_cycle,
            lambda_identity,
        )
        self.loss = LeastSquares()
        shape = (channels, size, size) if isinstance(size, int) else (channels, *size)
        self.pool_a, self.pool_b = ImagePool(pool_size, shape), ImagePool(pool_size, shape)
        self.color_maps: dict[str, dict[str, Map]] = {}  # by the domain that they lead to, by name

    def setup(self, stage: str) -> None:
        """Where the truth is known, learn what maps of single pixels make of it, from both training domains."""
        data = cast(Any, self.trainer).datamodule
        if data.paired and not self.color_maps:
            a, b = data.train.a.images, data.train.b.images
            self.color_maps = {"b": color_maps(a, b), "a": color_maps(b, a)}

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        players = ((self.d_a, self.d_b), (self.g, self.f))
        return [self.optimizer([p for net in pair for p in net.parameters()]) for pair in players]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """A step of both translators, then one of both discriminators, on images (B, C, H, W) in [0, 1] of A and of B.

        As no net here knows its batch, each sees all that it is to answer at once: what it translates and what it is to leave.
        """
        a, b = batch[0] * 2 - 1, batch[1] * 2 - 1
        d_optimizer, g_optimizer = cast(Any, self.optimizers())

        for net in (
            self.d_a,
            self.d_b,
        ):  # their gradients in the translators' step would be thrown away
            net.requires_grad_(False)
        if self.lambda_identity > 0:
            (fake_b, same_b), (fake_a, same_a) = (
                self.g(torch.cat([a, b])).chunk(2),
                self.f(torch.cat([b, a])).chunk(2),
            )
            identity = cycle_consistency(a, same_a) + cycle_consistency(b, same_b)
        else:
            fake_b, fake_a, identity = self.g(a), self.f(b), a.new_zeros(())
        cycle = cycle_consistency(a, self.f(fake_b)) + cycle_consistency(b, self.g(fake_a))
        # Zhu 2017, section 4: only the discriminators' objective is halved, so undo the 1/2 here
        fooled = 2 * (
            self.loss.generator(None, self.d_b(fake_b).float())
            + self.loss.generator(None, self.d_a(fake_a).float())
        )
        g_loss = fooled + self.lambda_cycle * (cycle + self.lambda_identity * identity)
        g_optimizer.zero_grad()
        self.manual_backward(g_loss)
        g_optimizer.step()

        for net in (self.d_a, self.d_b):
            net.requires_grad_(True)
        old_a, old_b = self.pool_a(fake_a.detach()), self.pool_b(fake_b.detach())
        d_loss = self._judged(self.d_a, a, old_a) + self._judged(self.d_b, b, old_b)
        d_optimizer.zero_grad()
        self.manual_backward(d_loss)
        d_optimizer.step()
        outputs = {
            "g_loss": g_loss,
            "d_loss": d_loss,
            "cycle_loss": cycle,
            "identity_loss": identity,
        }
        return {name: value.detach() for name, value in outputs.items()}

    def _judged(self, discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        real_scores, fake_scores = (
            discriminator(torch.cat([real, fake.to(real.dtype)])).float().chunk(2)
        )
        return self.loss.discriminator(real_scores, fake_scores)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure(batch, "test")

    def _measure(self, batch: tuple[Tensor, Tensor], stage: str) -> None:
        """Log the cycles' distances in [0, 1], of as many images as each domain has. Where the data pair each image with its
        true translation, also PSNR (dB) and SSIM to it, beside those of the image left as it is, and of maps of single pixels.
        """
        a, b = batch
        made_b, made_a = self.translate(a, "b"), self.translate(b, "a")
        self._note(stage, len(a), cycle_a=cycle_consistency(a, self.translate(made_b, "a")))
        self._note(stage, len(b), cycle_b=cycle_consistency(b, self.translate(made_a, "b")))
        if cast(Any, self.trainer).datamodule.paired:
            mapped = [
                (f"{to}_{name}", change(image), true)
                for to, image, true in (("b", a, b), ("a", b, a))
                for name, change in self.color_maps[to].items()
            ]
            rows = [("b", made_b, b), ("a", made_a, a), ("untranslated", a, b), *mapped]
            for name, made, true in rows:
                values = {f"psnr_{name}": psnr(made, true), f"ssim_{name}": ssim(made, true)}
                self._note(stage, len(a), **values)

    def _note(self, stage: str, n: int, **values: Tensor) -> None:
        """Log means over `n` images; of none there is nothing to say."""
        if n:
            named = {f"{stage}/{name}": value for name, value in values.items()}
            self.log_dict(named, batch_size=n, sync_dist=True)

    @torch.no_grad()
    def translate(self, images: Tensor, to: str = "b") -> Tensor:
        """Images (N, C, H, W) in [0, 1] of any size from 5 x 5 on -> what they are in the domain `to`, b or a, likewise,
        float32. Raises ValueError for smaller ones."""
        net = self.g if to == "b" else self.f
        height, width = images.shape[2:]
        if (
            min(height, width) < 5
        ):  # a quarter of it, at least 2, is what the residual blocks' borders reflect
            raise ValueError(f"an image of {width} x {height} is too small: it needs 5 x 5")
        x = F.pad(images * 2 - 1, (0, -width % 4, 0, -height % 4), mode="replicate").to(self.device)
        made = torch.cat([net(part).float() for part in x.split(64)]) if len(x) else x
        return (made[:, :, :height, :width] + 1) / 2

    def compared(self, a: Tensor, b: Tensor) -> Tensor:
        """Rows of six (n, 6, C, H, W): A, G(A), F(G(A)), B, F(B), G(F(B)); of images (n, C, H, W) in [0, 1] of each domain."""
        a, b = a.to(self.device), b.to(self.device)
        made_b, made_a = self.translate(a, "b"), self.translate(b, "a")
        return torch.stack(
            [a, made_b, self.translate(made_b, "a"), b, made_a, self.translate(made_a, "b")], 1
        )

    def graphs(self) -> dict[str, tuple[nn.Module, Any]]:
        """One translator and one discriminator, the others being alike, with two blank images."""
        x = torch.zeros(2, *self.pool_a.images.shape[1:], device=self.device)
        return {"generator": (self.g, x), "discriminator": (self.d_b, x)}


def psnr(said: Tensor, true: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images (B, C, H, W) in [0, 1], the mean over B, in float64."""
    return peak_signal_noise_ratio(
        float64(said), float64(true), data_range=1.0, dim=(1, 2, 3), reduction="elementwise_mean"
    )


def ssim(said: Tensor, true: Tensor) -> Tensor:
    """Structural similarity (Wang 2004) of images (B, C, H, W) in [0, 1], the mean over B, in float64: it convolves, which
    autocast would do in bf16, and subtracts squares that are nearly equal."""
    said, true = float64(said), float64(true)
    return cast(Tensor, structural_similarity_index_measure(said, true, data_range=1.0))
