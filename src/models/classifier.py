"""Image classification: one LightningModule for every network, from a small MLP to ResNet."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.core.errors import UserError
from src.core.progress import is_logging_step, progress
from src.core.randomness import generator
from src.core.types import Counted, Fraction, NonNegative, Positive, PositiveInt, RunPath
from src.data.splits import stratified_sample
from src.data.transforms.pixels import same_order
from src.losses import classification_loss
from src.metrics.accuracy import accuracy, class_accuracies, interval
from src.metrics.confusion import ConfusionMatrix, TopK
from src.models.base import Family
from src.models.normalize import Normalize, in_channels, normalized
from src.models.pretrained import Transfer, mismatch, read_source
from src.models.published import SETTING
from src.models.trained_parts import TrainedParts
from src.models.tta import TTA, predict_with_tta
from src.nets.average import moving_average
from src.nets.init import whiten
from src.nets.inspect import classifier_heads
from src.optim.groups import parameter_groups

log = logging.getLogger(__name__)

MAX_IMAGES = 5000  # training images that whitening uses, at most
MAX_PIXELS = 2**24  # pixels of these images, at most


class Classifier(Family):
    """A network that classifies images, trained by cross-entropy.

    Args:
        net: normalized images (B, C, H, W) -> logits (B, num_classes). In training it may return a
            tuple whose last members are the logits of auxiliary heads (GoogLeNet).
        channels: number of image channels. A gray image is repeated for a network of three.
        num_classes: number of classes.
        optimizer: parameters -> optimizer.
        schedule: progress in [0, 1) -> factor on the learning rate (see `src.optim.schedules`).
        normalize: how images are normalized.
        tta: test-time augmentation; with it the accuracy without it is logged as acc_single_view.
        transfer: how to train a network that starts from `init_from`.
        init_from: weights to start from: the folder of a run, a checkpoint, or `pretrained` for
            published ones. None: random weights; `transfer.freeze` must then be none.
        label_smoothing: in [0, 1): this part of each target is spread over all classes
            (Szegedy 2016, section 7).
        ema: decay of the moving average of the weights. The average is used for evaluation. The
            decay ramps up from a smaller value (`src.nets.average`). 0: no average.
        decay_all: apply weight decay to norms and biases too, not only to matrices and filters.
        aux_weight: weight of the loss of auxiliary heads, if there are any (Szegedy 2015).
        norm_bias_lr: factor on the learning rate of the norms' biases (Jordan 2024).
        freeze_early: fractions of the run after which the first, second, ... part of the network is
            no longer trained, see `TrainedParts`. None: the whole network is always trained.
        compile: fuse the operations of the network while training, see `Family`.
        cuda_graph: replay the kernels of a training step on a GPU, see `Family.replayed`.

    Raises:
        ValueError: nothing is left to train, or `whiten` finds no convolution.
    """

    is_classifier = True
    compilable = ("net",)
    monitor = "val/loss"
    key_metrics = ("acc", "loss", "top5", "acc_single_view")

    def __init__(
        self,
        net: nn.Module,
        channels: PositiveInt,
        num_classes: Counted,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[float], float],
        normalize: Normalize,
        tta: TTA,
        transfer: Transfer,
        init_from: RunPath | None = None,
        label_smoothing: Fraction = 0.0,
        ema: Fraction = 0.0,
        decay_all: bool = False,
        aux_weight: NonNegative = 0.3,
        norm_bias_lr: Positive = 1.0,
        freeze_early: Sequence[Fraction] | None = None,
        compile: bool | Literal["auto"] = False,
        cuda_graph: bool = False,
    ) -> None:
        super().__init__(compile, cuda_graph)
        self.net, self.num_classes = net, num_classes
        self.optimizer, self.schedule = optimizer, schedule
        self.normalize, self.tta = normalize, tta
        self.init_from, self.transfer = init_from, transfer
        self.label_smoothing, self.decay_all = label_smoothing, decay_all
        self.aux_weight, self.norm_bias_lr = aux_weight, norm_bias_lr
        self.average = moving_average(net, ema, ramp_up=True)
        self.in_channels = in_channels(net, channels)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", self._moment("mean", normalize.mean, channels))
        self.register_buffer("std", self._moment("std", normalize.std, channels))
        # (true, predicted) counts of the last evaluation, for the pictures
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.confusion = ConfusionMatrix(num_classes)
        self.top5 = TopK(5) if num_classes > 5 else None
        self.single_view = TopK() if tta else None
        if normalize.whiten and not any(isinstance(layer, nn.Conv2d) for layer in net.modules()):
            raise ValueError("whiten=true, but the network has no convolution to whiten")
        self.trained_parts = TrainedParts(net, self.average, transfer, freeze_early or ())
        self.train()

    def _moment(self, name: str, given: float | Sequence[float] | None, channels: int) -> Tensor:
        """Return the mean or std (C or 1, 1, 1); 0 or 1 until `setup` computes it."""
        if given is None:
            # a pretrained network of three channels may scale each one differently
            is_pretrained = self.init_from is not None
            number = 0.0 if name == "mean" else 1.0
            return torch.full((self.in_channels if is_pretrained else channels, 1, 1), number)
        value = torch.tensor(given, dtype=torch.float32).view(-1, 1, 1)
        if not isinstance(given, Sequence):
            value = value.repeat(channels, 1, 1)
        if len(value) not in ({1, channels} if channels > 1 else {1, self.in_channels}):
            raise ValueError(f"{name} has {len(value)} values for images of {channels} channels")
        return value

    def load_pretrained(self, datamodule: Any) -> None:
        """Load the network that `init_from` names; a no-op if it is None.

        Its heads are loaded if it was trained on the same classes in the same order, else they keep
        their random weights. Mean and std are loaded if the config leaves them open.

        Raises:
            UserError: any other weight is missing, unexpected or of another shape, or its images
                had their pixels in another order.
        """
        if self.init_from is None:
            return
        architecture = self.transfer.architecture.rpartition(".")[2]
        source = read_source(self.init_from, self.net, architecture)
        if not same_order(datamodule.permutation, source.permutation):
            raise UserError(
                f"{SETTING}={self.init_from}: its images had their pixels in another order "
                "(data.permute, data.size)"
            )
        new = [] if source.class_names == datamodule.class_names else classifier_heads(self.net)
        weights, target = (
            {name: value for name, value in state.items() if name.rpartition(".")[0] not in new}
            for state in (source.weights, self.net.state_dict())
        )
        if why := mismatch(weights, target):
            raise UserError(f"{SETTING}={self.init_from} does not fit the network: {why}")
        self.net.load_state_dict(weights, strict=False)
        if self.average is not None:
            self.average.module.load_state_dict(self.net.state_dict())
        for name in self.normalize.unset_moments:
            getattr(self, name).copy_(getattr(source, name))
        head = f"newly initialized for {len(datamodule.class_names)} classes: {', '.join(new)}"
        heads = head if new else "last layer included"
        advice = source.preprocessing_advice(datamodule)
        log.info("loaded weights from %s; %s%s", self.init_from, heads, advice)

    def train(self, mode: bool = True) -> "Classifier":
        """Switch between training and evaluation; frozen modules stay in evaluation mode."""
        super().train(mode)
        self.trained_parts.set_modes()
        return self

    def on_train_batch_start(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Freeze and unfreeze; here, because a run that is resumed mid-epoch starts no epoch."""
        if self.trained_parts.update(progress(self.trainer)):
            self.train()

    def on_train_end(self) -> None:
        self.trained_parts.finish()

    def setup(self, stage: str) -> None:
        is_new = stage == "fit" and not self.resumed
        if is_new and self.normalize.unset_moments and self.init_from is None:
            moments = dict(zip(("mean", "std"), self.datamodule.moments(), strict=True))
            for name in self.normalize.unset_moments:
                getattr(self, name).copy_(moments[name].view(-1, 1, 1))
        if is_new and self.normalize.whiten:
            self._whiten()

    def _whiten(self) -> None:
        data = self.datamodule
        n = max(1, min(MAX_IMAGES, MAX_PIXELS // (data.size[0] * data.size[1])))
        sample = stratified_sample(data.train.labels, n, "whiten")
        images = data.randomize(data.eval_images(data.train, sample)[0], generator(0, "whiten"))
        layer = next(layer for layer in self.net.modules() if isinstance(layer, nn.Conv2d))
        whiten(layer, self.scaled(images))
        if self.average is not None:
            self.average.module.load_state_dict(self.net.state_dict())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = parameter_groups(
            self.net,
            backbone_lr=None if self.init_from is None else self.transfer.backbone_lr,
            norm_bias_lr=self.norm_bias_lr,
            decay_all=self.decay_all,
        )
        optimizer = self.optimizer(groups)
        for group in optimizer.param_groups:
            group["lr"] *= group.pop("factor")
        return optimizer

    def scaled(self, x: Tensor) -> Tensor:
        """Normalize images (B, C, H, W) in [0, 1]; repeat gray ones for a net of three channels."""
        return normalized(x, self.mean, self.std, self.in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, C, H, W) in [0, 1].

        Outside training they are those of the average, if there is one, with test-time
        augmentation.
        """
        x = self.scaled(x)
        if self.training:
            return self.replayed(self.net, self.net, x)
        return predict_with_tta(self.measured_net, x, self.tta)[1]

    @property
    def measured_net(self) -> nn.Module:
        """The moving average if there is one, else the network itself."""
        return self.net if self.average is None else self.average.module

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the loss and, at logging steps, the accuracy of this batch."""
        x, labels = batch
        logits = self(x)
        loss = classification_loss(logits, labels, self.aux_weight, self.label_smoothing)
        if not is_logging_step(self.trainer, progress(self.trainer).batch + 1):
            return {"loss": loss}
        # mixed images have fractions of classes: take the largest
        true = labels if labels.ndim == 1 else labels.argmax(1)
        main = logits[0] if isinstance(logits, tuple) else logits
        return {"loss": loss, "acc": (main.argmax(1) == true).float().mean()}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Update the average here: on_train_batch_end runs after the checkpoint is written."""
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.update(self.net)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._measure(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._measure(batch, "test")

    def _measure(self, batch: tuple[Tensor, Tensor], stage: str) -> dict[str, Tensor]:
        x, labels = batch
        single, logits = predict_with_tta(self.measured_net, self.scaled(x), self.tta)
        logits = logits.float()
        self.confusion.update(logits, labels)
        if self.single_view is not None:
            self.single_view.update(single.float(), labels)
        if self.top5 is not None:
            self.top5.update(logits, labels)
        loss = F.cross_entropy(logits, labels)
        self.log_means({f"{stage}/loss": loss}, len(x))
        return {"logits": logits}

    def on_validation_epoch_end(self) -> None:
        self._summarize("val")

    def on_test_epoch_end(self) -> None:
        self._summarize("test")

    def _summarize(self, stage: str) -> None:
        """Log the metrics of an evaluation, and reset the counts."""
        counts = self.summed(self.confusion.counts)  # (true, predicted)
        values = accuracy(counts, f"{stage}/acc")
        if self.top5 is not None:
            correct, n = self.summed(self.top5.counts)
            values[f"{stage}/top5"] = float(correct / n)
            self.top5.reset()
        if self.single_view is not None:
            correct, n = self.summed(self.single_view.counts)
            name = f"{stage}/acc_single_view"
            values |= {name: float(correct / n), **interval(name, int(correct), int(n))}
            self.single_view.reset()
        for name, share in class_accuracies(counts, self.datamodule.class_names).items():
            values[f"{stage}_classes/{name}"] = share
        self.log_dict(values)
        self.counts = counts.cpu()
        self.confusion.reset()

    def graphs(self) -> dict[str, tuple[nn.Module, Any]]:
        """Return the network with two blank images."""
        data = self.datamodule
        blank = torch.zeros(2, data.channels, *data.size, device=self.device)
        return {"net": (self.net, self.scaled(blank))}
