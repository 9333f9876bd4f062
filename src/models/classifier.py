"""Image classification: one LightningModule for every net, from a 6,442-parameter MLP to VGG and ResNet."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from src.core.progress import is_logging_step, progress
from src.core.types import (
    Counted,
    Fraction,
    NonNegative,
    NonNegativeInt,
    PathText,
    Positive,
    PositiveInt,
    Probability,
)
from src.data.splits import stratified_sample
from src.data.transforms.pixels import permute_pixels
from src.metrics.intervals import wilson
from src.models.base import Family
from src.nets.init import whiten
from src.nets.inspect import classifier_heads, frozen_parts

log = logging.getLogger(__name__)

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
WHITENED = (
    5000,
    2**24,
)  # at most so many training images, and pixels, whose principal components the first layer begins with


class Classifier(Family):
    """A net that says which class an image is of, by cross-entropy.

    Args:
        net: images (B, C, H, W), scaled by `mean` and `std`, -> logits (B, num_classes); in training it may return a tuple
            whose last members are logits of auxiliary heads (GoogLeNet's).
        channels: of the images; a net of three channels sees a grey image three times.
        num_classes: how many classes there are.
        optimizer: parameters -> optimiser.
        schedule: progress in [0, 1) -> factor on the learning rate (see `src.optim.schedules`).
        mean, std: of images in [0, 1], one number or one a channel; None: of the training images, or those that a transferred
            net was trained with, since its first layer expects them.
        label_smoothing: in [0, 1): that share of each target is spread over all classes (Szegedy 2016, section 7).
        ema: decay of the net's moving average, BatchNorm's buffers included, which is then what is measured; 0: none. After
            n batches it is (1 + n) / (10 + n) where that is less, so that the first weights are soon forgotten.
        decay_all: let the optimiser's weight decay shrink norms and biases too, else matrices and filters alone.
        aux_weight: of an auxiliary head's loss (Szegedy 2015, section 5).
        norm_bias_lr: factor on the learning rate of the biases of norms (Jordan 2024, section 3.4).
        whiten: begin the first convolution with the principal components of the training images (see `src.nets.init.whiten`).
        mirror: measure, and answer, by the mean of the logits of an image and its mirror image; the accuracy of the image alone
            is then logged too, as acc_single_view.
        shift: pixels; the same, of an image (half the weight) and of it moved so far up and left, down and right, the border
            reflected. With `mirror` that is six images.
        init_from: where the net was trained before (`src.engine.pretrained` loads it); None: nowhere, and what follows is of
            no effect.
        freeze: what stays as it was, BatchNorm's buffers too, its dropout off: `none`, `backbone` (all but the heads), or so
            many layers from the first on (see `src.nets.inspect.frozen_parts`).
        unfreeze_epoch: after so many epochs the frozen part is trained too; None: never.
        backbone_lr: factor on the learning rate of all layers but the heads, whenever they are trained: a net that was trained
            before is only to be tuned, be it from the start (freeze: none), above what is frozen, or once it is unfrozen.

    Raises ValueError where `freeze` leaves nothing to learn, and `whiten` finds no convolution.
    """

    def __init__(
        self,
        net: nn.Module,
        channels: PositiveInt,
        num_classes: Counted,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[float], float],
        mean: Probability | Sequence[Probability] | None = None,
        std: Positive | Sequence[Positive] | None = None,
        label_smoothing: Fraction = 0.0,
        ema: Fraction = 0.0,
        decay_all: bool = False,
        aux_weight: NonNegative = 0.3,
        norm_bias_lr: Positive = 1.0,
        whiten: bool = False,
        mirror: bool = False,
        shift: NonNegativeInt = 0,
        init_from: PathText | None = None,
        freeze: Literal["none", "backbone"] | PositiveInt = "none",
        unfreeze_epoch: PositiveInt | None = None,
        backbone_lr: Positive = 0.1,
    ) -> None:
        super().__init__()
        self.net, self.num_classes, self.optimizer, self.schedule = (
            net,
            num_classes,
            optimizer,
            schedule,
        )
        self.label_smoothing, self.decay_all, self.aux_weight = (
            label_smoothing,
            decay_all,
            aux_weight,
        )
        self.norm_bias_lr, self.whiten, self.mirror, self.shift = (
            norm_bias_lr,
            whiten,
            mirror,
            shift,
        )
        self.average = None
        if ema > 0:
            self.average = AveragedModel(
                net, multi_avg_fn=_moving(ema), use_buffers=True
            ).requires_grad_(False)
        self.in_channels = in_channels(net, channels)
        self.init_from, self.unfreeze_epoch, self.backbone_lr = (
            init_from,
            unfreeze_epoch,
            backbone_lr,
        )
        self.open = [
            name for name, given in (("mean", mean), ("std", std)) if given is None
        ]  # until training starts
        self.mean: Tensor
        self.std: Tensor
        for name, given, until_then in (("mean", mean, 0.0), ("std", std, 1.0)):
            value = torch.tensor(until_then if given is None else given).view(-1, 1, 1)
            if init_from is not None and given is None:
                value = value.repeat(
                    self.in_channels, 1, 1
                )  # a net of three channels may scale each in its way, grey ones too
            elif given is None or isinstance(given, float):
                value = value.repeat(channels, 1, 1)
            if len(value) not in ({1, channels} if channels > 1 else {1, self.in_channels}):
                raise ValueError(
                    f"{name} has {len(value)} values for images of {channels} channels"
                )
            self.register_buffer(name, value)
        self.counts = torch.zeros(
            num_classes, num_classes, dtype=torch.int64
        )  # of the last measure, kept for the pictures
        self.confusion = MulticlassConfusionMatrix(num_classes)  # (true, said) counts
        self.top5 = (
            MulticlassAccuracy(num_classes, top_k=5, average="micro") if num_classes > 5 else None
        )
        self.single_view = (
            MulticlassAccuracy(num_classes, average="micro") if mirror or shift else None
        )
        if whiten and not any(isinstance(layer, nn.Conv2d) for layer in net.modules()):
            raise ValueError(
                "whiten=true, but the net has no convolution to begin with principal components"
            )
        self.frozen, self.at_rest = frozen_parts(net, freeze)
        for parameter in self.frozen:
            parameter.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "Classifier":
        """Go into training or evaluation; what is frozen stays in evaluation."""
        super().train(mode)
        for module in self.at_rest:
            module.training = False
        return self

    def on_train_batch_start(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Unfreeze when it is time; here, since a run resumed inside an epoch does not start one."""
        if (
            self.frozen
            and self.unfreeze_epoch is not None
            and self.current_epoch >= self.unfreeze_epoch
        ):
            for parameter in self.frozen:
                parameter.requires_grad_(True)
            n = sum(parameter.numel() for parameter in self.frozen)
            log.info("after epoch %d, %s more parameters learn", self.current_epoch, f"{n:,}")
            self.frozen, self.at_rest = [], []
            self.train()

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.open and self.init_from is None:
            moments = dict(zip(("mean", "std"), self.datamodule.moments(), strict=True))
            for name in self.open:
                getattr(self, name).copy_(moments[name].view(-1, 1, 1))
        if stage == "fit" and self.whiten:
            data = self.datamodule
            most, pixels = WHITENED
            n = max(1, min(most, pixels // (data.size[0] * data.size[1])))
            images, _ = data.eval_images(
                data.train, stratified_sample(data.train.labels, n, "whiten")
            )
            layer = next(layer for layer in self.net.modules() if isinstance(layer, nn.Conv2d))
            whiten(layer, self.scaled(images))
            if self.average is not None:
                self.average.module.load_state_dict(self.net.state_dict())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The heads' groups come first: their rate is logged. What is frozen has its own throughout: a resumed run finds the
        same in its checkpoint, and SGD's fused step fails where only some of a group have a momentum yet."""
        of_heads = {
            p
            for name in classifier_heads(self.net)
            for p in self.net.get_submodule(name).parameters()
        }
        of_norms = {layer.bias for layer in self.net.modules() if isinstance(layer, NORMS)}
        groups: dict[tuple[bool, bool, bool, bool], dict[str, Any]] = {}
        for parameter in self.net.parameters():
            backbone = self.init_from is not None and parameter not in of_heads
            spared = parameter.ndim < 2 and not self.decay_all
            eager = self.norm_bias_lr != 1 and parameter in of_norms
            kind = (backbone, not parameter.requires_grad, spared, eager)
            factor = (self.backbone_lr if backbone else 1.0) * (self.norm_bias_lr if eager else 1.0)
            group = groups.setdefault(kind, {"params": [], "factor": factor})
            group["params"].append(parameter)
            if spared:
                group["weight_decay"] = 0.0
        optimizer = self.optimizer([groups[kind] for kind in sorted(groups)])
        for group in optimizer.param_groups:
            group["lr"] *= group.pop("factor")
        return optimizer

    def scaled(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] as the net wants them; grey ones three times where it wants colour."""
        return scaled(x, self.mean, self.std, self.in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> logits (B, num_classes); of the average where there is one, outside training."""
        x = self.scaled(x)
        return (
            self.net(x)
            if self.training
            else answered(self.measured_net, x, self.mirror, self.shift)
        )

    @property
    def measured_net(self) -> nn.Module:
        """The average where there is one, else the net itself."""
        return self.net if self.average is None else self.average.module

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Returns the loss and, at logging steps, the accuracy of this batch."""
        x, labels = batch
        logits = self(x)
        main, *auxiliary = logits if isinstance(logits, tuple) else (logits,)
        loss = F.cross_entropy(main.float(), labels, label_smoothing=self.label_smoothing)
        for head in auxiliary:
            if head is not None:
                loss = loss + self.aux_weight * F.cross_entropy(
                    head.float(), labels, label_smoothing=self.label_smoothing
                )
        if not is_logging_step(self.trainer, progress(self.trainer).batch + 1):
            return {"loss": loss}
        true = (
            labels if labels.ndim == 1 else labels.argmax(1)
        )  # shares, of mixed images: the greater part
        return {"loss": loss, "acc": (main.argmax(1) == true).float().mean()}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Here and not in on_train_batch_end, which comes behind the callbacks' and so behind the checkpoint."""
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.update_parameters(self.net)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._measure(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._measure(batch, "test")

    def _measure(self, batch: tuple[Tensor, Tensor], stage: str) -> dict[str, Tensor]:
        x, labels = batch
        single, logits = single_and_mean(self.measured_net, self.scaled(x), self.mirror, self.shift)
        logits = logits.float()
        self.confusion.update(logits, labels)
        if self.single_view is not None:
            self.single_view.update(single.float(), labels)
        if self.top5 is not None:
            self.top5.update(logits, labels)
        self.log(
            f"{stage}/loss",
            F.cross_entropy(logits, labels),
            batch_size=len(x),
            on_epoch=True,
            sync_dist=True,
        )
        return {"logits": logits}

    def on_validation_epoch_end(self) -> None:
        self._summarise("val")

    def on_test_epoch_end(self) -> None:
        self._summarise("test")

    def _summarise(self, stage: str) -> None:
        counts = self.confusion.compute()  # (true, said)
        right, n = int(counts.diag().sum()), int(counts.sum())
        low, high = wilson(right, n)
        values = {f"{stage}/acc": right / n, f"{stage}/acc_low": low, f"{stage}/acc_high": high}
        if self.top5 is not None:
            values[f"{stage}/top5"] = float(self.top5.compute())
        if self.single_view is not None:
            name, share = f"{stage}/acc_single_view", float(self.single_view.compute())
            values[name] = share
            values[f"{name}_low"], values[f"{name}_high"] = wilson(round(share * n), n)
            self.single_view.reset()
        names = self.datamodule.class_names
        for name, hits, images in zip(
            names, counts.diag().tolist(), counts.sum(1).tolist(), strict=True
        ):
            if images:  # a class without images has no accuracy
                values[f"{stage}_classes/{name}"] = hits / images
        self.log_dict(values)
        self.counts = counts.cpu()
        self.confusion.reset()
        if self.top5 is not None:
            self.top5.reset()

    def graphs(self) -> dict[str, tuple[nn.Module, Any]]:
        """The net with two blank images."""
        data = self.datamodule
        return {
            "net": (
                self.net,
                self.scaled(torch.zeros(2, data.channels, *data.size, device=self.device)),
            )
        }


def _moving(ema: float) -> Callable[[Any, Any, Any], None]:
    def average(averaged: Any, current: Any, n: Any) -> None:
        get_ema_multi_avg_fn(min(ema, (1 + int(n)) / (10 + int(n))))(averaged, current, n)

    return average


class Whole(nn.Module):
    """What a trained classifier is to anyone else: its net, the average where there is one, and all that is done before it.

    Args:
        model: its weights are shared, not copied.
        permutation: (H * W,) where the run's images were permuted (`ImageData.permute`), else None.
    """

    def __init__(self, model: Classifier, permutation: Tensor | None) -> None:
        super().__init__()
        self.net, self.mirror, self.shift = model.measured_net, model.mirror, model.shift
        self.in_channels = model.in_channels
        self.mean: Tensor
        self.std: Tensor
        self.permutation: Tensor | None
        for name, tensor in (
            ("mean", model.mean),
            ("std", model.std),
            ("permutation", permutation),
        ):
            self.register_buffer(name, tensor)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1], pixels where a person sees them -> logits (B, num_classes)."""
        if self.permutation is not None:
            images = permute_pixels(images, self.permutation)
        return answered(
            self.net, scaled(images, self.mean, self.std, self.in_channels), self.mirror, self.shift
        )


def answered(net: nn.Module, x: Tensor, mirror: bool, shift: int) -> Tensor:
    """Logits of scaled images (B, C, H, W): the mean over the views that `mirror` and `shift` (see Classifier) ask for."""
    return single_and_mean(net, x, mirror, shift)[1]


def single_and_mean(net: nn.Module, x: Tensor, mirror: bool, shift: int) -> tuple[Tensor, Tensor]:
    """Return logits (B, num_classes) of scaled images (B, C, H, W) as they are, and the mean over their views."""
    single = net(x)
    mean = (single + net(x.flip(3))) / 2 if mirror else single
    if shift:
        height, width = x.shape[2:]
        around = F.pad(x, (shift,) * 4, mode="reflect")
        moved = (around[..., i : i + height, i : i + width] for i in (0, 2 * shift))
        mean = mean / 2 + sum(answered(net, view, mirror, 0) for view in moved) / 4
    return single, mean


def scaled(x: Tensor, mean: Tensor, std: Tensor, channels: int) -> Tensor:
    """(x - mean) / std, mean and std (C or 1, 1, 1); a grey x as often as makes `channels`."""
    x = (x - mean) / std
    if x.shape[1] != channels:
        x = x.expand(-1, channels, -1, -1)
    return x.contiguous(memory_format=torch.channels_last)


def in_channels(net: nn.Module, channels: int) -> int:
    """How many channels the first convolution of `net` takes; `channels` where it has none."""
    return next(
        (layer.in_channels for layer in net.modules() if isinstance(layer, nn.Conv2d)), channels
    )
