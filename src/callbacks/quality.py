"""Measure samples against validation and test images, with features of the project's own classifier."""

from pathlib import Path

import pytorch_lightning as pl
import torch

from src.callbacks.common import CanSample, CanSampleClasses, data_of
from src.data.base import ImageSet, log
from src.data.pixels import to_bytes
from src.metrics.features import feature_net
from src.metrics.quality import quality
from src.randomness import generator


class SampleQuality(pl.Callback):
    """Log {val,test}/fid_own and its kin for any model that samples and any labelled set in memory.

    Args:
        n: samples at most; fewer where the set is smaller, since the measures want equal numbers.
        every_n_epochs: measured on validation images at these epochs and the last, None for the last only.
        seed: of the noise.
        cache: folder of the feature nets.
    """

    def __init__(self, n: int, every_n_epochs: int | None, seed: int, cache: str) -> None:
        self.n, self.every_n_epochs, self.seed, self.cache = n, every_n_epochs, seed, Path(cache)
        self.features = ""

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        due = epoch == trainer.max_epochs or (
            self.every_n_epochs and epoch % self.every_n_epochs == 0
        )
        if due or trainer.state.fn == "validate":
            self._measure(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._measure(trainer, pl_module, "test")

    def _measure(self, trainer: pl.Trainer, model: pl.LightningModule, stage: str) -> None:
        data = data_of(trainer)
        real = getattr(data, stage)
        if not isinstance(model, CanSample):
            return
        if (
            not data.num_classes
            or data.varies
            or not isinstance(real, ImageSet)
            or not isinstance(data.train, ImageSet)
        ):
            log.info(
                "%s/fid_own is not measured: it needs labels and settled images in memory, which %s has not",
                stage,
                data.name,
            )
            return
        net = feature_net(data.train, data.num_classes, data.name, self.cache, model.device)
        self.features = net.digest()
        n = min(self.n, len(real), len(data.train))
        asked, noise = None, generator(self.seed, "quality")
        if isinstance(model, CanSampleClasses) and model.num_classes:
            asked = torch.arange(n) % model.num_classes
            samples = to_bytes(model.sample(n, noise, asked))
        else:
            samples = to_bytes(model.sample(n, noise))
        pick = torch.randperm(len(data.train), generator=generator("floor"))[:n]
        card = quality(samples, real.images[:n], data.train.images[pick], net, asked)
        model.log_dict(
            {f"{stage}/{name}": value for name, value in card.items()}, rank_zero_only=True
        )
