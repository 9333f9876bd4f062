"""Neural style transfer (Gatys 2015): the content of one picture in the style of another."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from src.core.errors import UserError
from src.core.types import ImageSize, NonNegative, PositiveInt, RunPath, height_width
from src.losses import content_loss, gram, style_loss, total_variation
from src.models.base import Family
from src.models.pretrained import mismatch, read_source

log = logging.getLogger(__name__)


class Targets(NamedTuple):
    """The feature maps that the image should match.

    Attributes:
        content: maps (1, N, h, w) by layer.
        style: a Gram matrix (1, N, N) and the number of pixels in its sums, by layer.
    """

    content: dict[str, Tensor]
    style: dict[str, tuple[Tensor, int]]


class StyleTransfer(Family):
    """Learn one image; each batch is one optimizer step.

    Computes in float32 throughout, since the line search of L-BFGS compares losses that are equal
    in bf16.

    Args:
        net: scaled images -> maps, a sequence of named layers (`src.nets.perceptual`). Its weights
            come from `init_from` and stay fixed.
        optimizer: parameters -> optimizer; the paper uses L-BFGS.
        schedule: progress in [0, 1) -> factor on the learning rate.
        channels, size: number of channels, and side or (height, width), of the image.
        num_steps: optimizer steps when `translate` makes an image.
        content_layers, style_layers: names of the network's layers, all with the same weight.
        content_weight, style_weight: alpha and beta (Gatys 2015, eq. 7).
        tv_weight: weight of the total variation.
        init_image: start from the `content`, or from uniform `noise`.
        init_from: source of the network's weights: the run of a classifier, a checkpoint, or
            `pretrained` (torchvision's).

    Raises:
        ValueError: the network has no layer of a given name, or the image is smaller than the
            network's pooling.
    """

    takes = "a photograph and a style"
    compared = ("content", "style", "result")
    key_metrics = ("loss", "content_loss", "style_loss", "tv_loss")
    supports: ClassVar = {
        "accumulate_grad_batches": ((1,), "there is only one image"),
        "precision": (("auto", "32-true"), "style transfer computes in float32 only"),
    }

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[float], float],
        channels: PositiveInt,
        size: ImageSize,
        num_steps: PositiveInt,
        content_layers: Sequence[str],
        style_layers: Sequence[str],
        content_weight: NonNegative = 1.0,
        style_weight: NonNegative = 1000.0,
        tv_weight: NonNegative = 0.0,
        init_image: Literal["content", "noise"] = "content",
        init_from: RunPath | None = None,
    ) -> None:
        super().__init__()
        self.net, self.optimizer, self.schedule = net.requires_grad_(False), optimizer, schedule
        self.num_steps, self.init_image, self.init_from = num_steps, init_image, init_from
        self.content_layers, self.style_layers = list(content_layers), list(style_layers)
        self.weights = {"content": content_weight, "style": style_weight, "tv": tv_weight}
        names = [name for name, _ in net.named_children()]
        if unknown := [name for name in (*content_layers, *style_layers) if name not in names]:
            raise ValueError(f"the network has no layer {unknown[0]}; it has {', '.join(names)}")
        shape = (1, channels, *height_width(size))
        self._check(shape[2:])
        # without a batch dimension, since L-BFGS needs a contiguous parameter
        self.image = nn.Parameter(torch.zeros(shape[1:]))
        self.content: Tensor
        self.style: Tensor
        self.mean: Tensor
        self.std: Tensor
        for name in ("content", "style"):
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))
        self.targets: Targets | None = None
        self.train()

    def _check(self, sides: Sequence[int]) -> None:
        min_side = 2 ** sum(
            isinstance(layer, nn.MaxPool2d | nn.AvgPool2d) for layer in self.net.children()
        )
        if min(sides) < min_side:
            raise ValueError(
                f"an image of {sides[1]} x {sides[0]} is too small: "
                f"it needs {min_side} x {min_side}"
            )

    def train(self, mode: bool = True) -> "StyleTransfer":
        """Keep the network in eval mode."""
        super().train(mode)
        self.net.eval()
        return self

    def setup(self, stage: str) -> None:
        if stage == "fit":
            content, style = self.datamodule.pair()
            self.content.copy_(content)
            self.style.copy_(style)
            self.image.data.copy_(self._start_image(content, None)[0])

    def load_pretrained(self, datamodule: Any) -> None:
        """Load the convolutions that `init_from` names, with their mean and std; a no-op if None.

        torchvision's VGG names its convolutions by position, `features.0.weight`; so do ours.

        Raises:
            UserError: a weight is missing or of another shape. Surplus ones are ignored.
        """
        if self.init_from is None:
            return
        init_from, target = self.init_from, self.net.state_dict()
        try:
            source = read_source(init_from, self.net, "vgg19")
        except UserError as error:
            if init_from != "pretrained":
                raise
            raise UserError(
                f"{error}; or model=style_transfer_own model.init_from=RUN, the run of a model=vgg"
            ) from error
        features = [value for name, value in source.weights.items() if name.startswith("features.")]
        weights = dict(zip(target, features, strict=False)) or {
            name: value for name, value in source.weights.items() if name in target
        }
        if why := mismatch(weights, target):
            raise UserError(
                f"model.init_from={init_from} does not fit the network, "
                f"which is that of model=vgg: {why}"
            )
        self.net.load_state_dict(weights)
        self.mean.copy_(source.mean)
        self.std.copy_(source.std)
        count = sum(isinstance(layer, nn.Conv2d) for layer in self.net.children())
        log.info("loaded %d convolutions from %s", count, init_from)

    def _start_image(self, content: Tensor, noise: torch.Generator | None) -> Tensor:
        return (
            content.clone()
            if self.init_image == "content"
            else torch.rand(content.shape, generator=noise).to(content)
        )

    def example_inputs(self) -> dict[str, tuple[nn.Module, Any]]:
        """Return the network with the image that is learned."""
        return {"net": (self.net, self.image.detach()[None])}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer([self.image])

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """Return the maps of the content and style layers.

        Args:
            x: images (B, C, H, W) in [0, 1].

        Returns:
            Maps (B, N, h, w) by layer.
        """
        found: dict[str, Tensor] = {}
        wanted = {*self.content_layers, *self.style_layers}
        x = (x - self.mean) / self.std
        for name, layer in self.net.named_children():
            x = layer(x)
            if name in wanted:
                found[name] = x
            if len(found) == len(wanted):
                break
        return found

    @torch.no_grad()
    def make_targets(self, content: Tensor, style: Tensor) -> Targets:
        """Return the targets for content and style images (1, C, H, W) in [0, 1], of any size."""
        content_maps, style_maps = self.maps(content), self.maps(style)
        return Targets(
            {name: content_maps[name] for name in self.content_layers},
            {
                name: (gram(style_maps[name]), style_maps[name][0, 0].numel())
                for name in self.style_layers
            },
        )

    def losses(self, x: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Return the loss of Gatys 2015, eq. 7, and its weighted terms.

        Args:
            x: the image (1, C, H, W) in [0, 1].
            targets: see `make_targets`.
        """
        maps = self.maps(x)
        content = [content_loss(maps[name], target) for name, target in targets.content.items()]
        style = [style_loss(maps[name], *target) for name, target in targets.style.items()]
        terms = {
            "content": torch.stack(content).mean(),
            "style": torch.stack(style).mean(),
            "tv": total_variation(x),
        }
        weighted = {f"{name}_loss": self.weights[name] * value for name, value in terms.items()}
        total = torch.stack(list(weighted.values())).sum()
        return {"loss": total, **{name: value.detach() for name, value in weighted.items()}}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the losses of the current image; L-BFGS calls this several times per step."""
        with torch.autocast(self.device.type, enabled=False):
            if self.targets is None:
                self.targets = self.make_targets(self.content, self.style)
            return self.losses(self.image.unsqueeze(0), self.targets)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        with torch.autocast(self.device.type, enabled=False):
            values = self.losses(
                self.image.unsqueeze(0), self.make_targets(self.content, self.style)
            )
        self.log_dict({f"test/{name}": value for name, value in values.items()}, batch_size=1)

    def translate(self, images: Tensor, to: str = "b") -> Tensor:
        """Optimize an image for each content image, in the style of this run.

        Takes `num_steps` steps per image.

        Args:
            images: content images (N, C, H, W) in [0, 1]. If the run starts from noise, all start
                from the same.
            to: not used.

        Raises:
            ValueError: an image is smaller than the network's pooling.
        """
        self._check(images.shape[2:])
        return torch.stack([self._optimize(content) for content in images.to(self.device).split(1)])

    @torch.enable_grad()
    def _optimize(self, content: Tensor) -> Tensor:
        """Optimize an image for the content (1, C, H, W); return it, (C, H, W)."""
        targets = self.make_targets(content, self.style)
        x = nn.Parameter(
            self._start_image(content, torch.Generator().manual_seed(0))[0].contiguous()
        )
        optimizer = self.optimizer([x])

        def closure() -> float:
            optimizer.zero_grad()
            loss = self.losses(x.unsqueeze(0), targets)["loss"]
            loss.backward()
            return loss.item()

        rates = [group["lr"] for group in optimizer.param_groups]
        for step in range(self.num_steps):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * self.schedule(step / self.num_steps)
            optimizer.step(closure)
        return x.detach().clamp(0, 1)

    def compare(self, a: Tensor, b: Tensor, generator: torch.Generator) -> Tensor:
        """Return one row (1, 3, C, H, W) in [0, 1]: content, style and the current image."""
        return torch.stack(
            [self.content, self.style, self.image.detach().clamp(0, 1).unsqueeze(0)], 1
        )
