"""Quality of samples against validation and test images, by two feature networks."""

import logging
from pathlib import Path
from typing import ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor

from src.callbacks.early_stopping import EarlyStopping
from src.callbacks.protocols import CanSample, CanSampleClasses
from src.callbacks.train_metrics import excluded_from_training_time
from src.callbacks.trainer_state import (
    callbacks,
    datamodule,
    is_last_validation,
    on_first_process,
)
from src.core.errors import UserError
from src.core.packages import require
from src.core.pixels import to_uint8
from src.core.progress import progress
from src.core.randomness import generator
from src.core.types import PathText, PositiveInt, Seed
from src.data.image_data import ImageData
from src.data.images import Images, ImageSet
from src.metrics.features import FeatureNet, feature_net
from src.metrics.precision import float32
from src.metrics.quality import quality, too_few

log = logging.getLogger(__name__)


class SampleQuality(pl.Callback):
    """Log {val,test}/fid_own and related metrics for models that sample, on labeled sets in memory.

    The networks are prepared before training, so that a missing file does not cost a finished run
    its metrics. Images are drawn from the whole set, the same for all runs. Metrics that cannot be
    computed are left out, and the log says why.

    Args:
        n: largest number of samples. The number of real images is the same, because the
            metrics need equal numbers.
        every_n_epochs: also measure on validation images at these epochs; None: only at the last
            validation.
        seed: seed of the noise.
        cache: folder of the feature networks.
        inception: also measure fid_inception, kid_inception and is_inception of the test (see
            `src.metrics.inception`).

    Attributes:
        measures: metrics of validation that it logs, which a `monitor` may name.
        needs: setting -> the extra and the package that it needs (see `expect_packages`).
        counts, based_on: see `src.callbacks.final_metrics.Basis`; `test/samples` also counts the
            real images.
        features: the data set and the digest of its feature network; empty if none was needed.
    """

    measures: ClassVar = (
        "fid_own",
        "kid_own",
        "precision",
        "recall",
        "density",
        "coverage",
        "asked_acc",
        "confidence",
        "least_class",
    )
    needs: ClassVar = {"inception": ("inception", "torch_fidelity")}

    def __init__(
        self,
        n: PositiveInt,
        every_n_epochs: PositiveInt | None,
        seed: Seed,
        cache: PathText,
        inception: bool = False,
    ) -> None:
        self.n, self.every_n_epochs, self.seed, self.cache = n, every_n_epochs, seed, Path(cache)
        self.inception, self.inception_weights = inception, Path()
        self.net: FeatureNet | None = None
        self.ready = False
        self.counts: dict[str, int] = {}
        self.based_on: dict[str, str] = {}
        self.features = ""
        self.measured_epoch = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if not isinstance(pl_module, CanSample) or self.ready:
            return
        data = datamodule(trainer)
        if stage != "fit" or len(data.val) or len(data.test):
            self.ready = True
            on_first_process(trainer, lambda: self._prepare(trainer))  # which also measures

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        due = is_last_validation(trainer) or (
            self.every_n_epochs and epoch % self.every_n_epochs == 0
        )
        if due or trainer.state.fn == "validate":
            self.measured_epoch = epoch
            self._measure(trainer, pl_module, "val")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure also after an epoch that early stopping has made the last."""
        stopped = any(isinstance(c, EarlyStopping) and c.ended for c in callbacks(trainer))
        if stopped and self.measured_epoch != trainer.current_epoch + 1:
            was_training = pl_module.training
            pl_module.eval()
            with excluded_from_training_time(trainer), torch.no_grad():
                self._measure(trainer, pl_module, "val")
            pl_module.train(was_training)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._measure(trainer, pl_module, "test")

    def _prepare(self, trainer: pl.Trainer) -> None:
        """Prepare the feature network and the weights of Inception."""
        data = datamodule(trainer)
        try:
            if not data.num_classes or data.randomizes or not isinstance(data.train, ImageSet):
                raise UserError(
                    "it needs a labeled data set that is held in memory and not re-randomized "
                    f"every epoch; {data.name} is not one"
                )
            if data.num_classes == 1:
                raise UserError(
                    "its feature network learns to tell classes apart, and the images have only one"
                )
            full = data.full_training_set()
            assert isinstance(full, ImageSet)
            self.net = feature_net(full, data.num_classes, data.name, self.cache)
            self.features = f"{data.name} {self.net.digest()}"
            log.info("fid_own and related metrics use the feature network %s", self.features)
        except UserError as error:
            log.info("fid_own is skipped: %s", error)
        try:
            if self.inception:
                require("callbacks.quality.inception", *self.needs["inception"])
                from src.metrics.inception import inception_weights

                self.inception_weights = inception_weights()
        except UserError as error:
            self.inception = False
            log.info("fid_inception is skipped: %s", error)

    def _measure(self, trainer: pl.Trainer, model: pl.LightningModule, stage: str) -> None:
        """Log the metrics of `stage`, which the first process computes for all."""
        if isinstance(model, CanSample):
            computed = on_first_process(trainer, lambda: self._compute(trainer, model, stage))
            for count, (n, values) in computed.items():
                self._log(trainer, model, stage, count, n, values)

    def _compute(
        self, trainer: pl.Trainer, model: pl.LightningModule, stage: str
    ) -> dict[str, tuple[int, dict[str, float]]]:
        """Return number of images and metrics by the name of that number."""
        data = datamodule(trainer)
        part, train = getattr(data, stage), data.train
        inception = self.inception and stage == "test"
        computed: dict[str, tuple[int, dict[str, float]]] = {}
        if not isinstance(model, CanSample) or (self.net is None and not inception):
            return computed
        n = min(self.n, len(part), len(train))
        with float32(model.device):
            samples, asked = self._samples(model, n)
            real = self._draw_images(data, part, n, "real")
            if self.net is not None:
                for names in too_few(n):
                    log.info("%s: too few images (%d) for %s", stage, n, names)
                floor = self._draw_images(data, train, n, "floor").images
                metrics = quality(samples, real, floor, self.net.to(model.device), asked)
                computed["samples"] = (n, metrics)
            if inception and (values := self._measure_inception(model, samples, real.images)):
                computed["inception_samples"] = (n, values)
        return computed

    def _samples(self, model: CanSample, n: int) -> tuple[Tensor, Tensor | None]:
        """Return `n` samples, uint8, and the classes that they were drawn for, if there are any."""
        noise = generator(self.seed, "quality")
        if isinstance(model, CanSampleClasses) and model.num_classes:
            asked = torch.arange(n) % model.num_classes
            return to_uint8(model.sample(n, noise, asked)), asked
        return to_uint8(model.sample(n, noise)), None

    def _draw_images(self, data: ImageData, part: Images, n: int, name: str) -> ImageSet:
        """Draw `n` random images of `part`, the same in all runs."""
        indices = torch.randperm(len(part), generator=generator("quality", name))[:n].sort().values
        chunks = (data.eval_images(part, chunk) for chunk in indices.split(500))
        images, labels = zip(*((to_uint8(x), y) for x, y in chunks), strict=True)
        return ImageSet(torch.cat(images), torch.cat(labels))

    def _measure_inception(
        self, model: pl.LightningModule, samples: Tensor, real: Tensor
    ) -> dict[str, float]:
        from src.metrics.inception import MIN_IMAGES, inception_quality

        if len(real) < MIN_IMAGES:
            log.info(
                "test: too few images (%d) for fid_inception (it needs %d images)",
                len(real),
                MIN_IMAGES,
            )
            return {}
        log.info("fid_inception: %d samples and images each; takes minutes on a CPU", len(real))
        try:
            return inception_quality(samples, real, self.inception_weights, model.device)
        except Exception as error:  # if the library fails, the run keeps its other metrics
            log.info("fid_inception is skipped: %s", str(error).partition("\n")[0])
            return {}

    def _log(
        self,
        trainer: pl.Trainer,
        model: pl.LightningModule,
        stage: str,
        count: str,
        n: int,
        values: dict[str, float],
    ) -> None:
        named = {f"{stage}/{name}": value for name, value in values.items()}
        model.log_dict(named, rank_zero_only=True, logger=False if trainer.training else None)
        if trainer.training:  # Lightning would pass them on only after the checkpoint of the epoch
            known = trainer.callback_metrics
            logged = {name: float(known[name]) for name in named if name in known}
            for logger in trainer.loggers:
                logger.log_metrics(logged, step=progress(trainer).batch - 1)
        self.counts[f"{stage}/{count}"] = n
        self.based_on |= dict.fromkeys(named, f"{stage}/{count}")
