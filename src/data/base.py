"""The contract of all data sets, and how images become batches.

uint8 in memory -> one index operation per batch -> device -> float in [0, 1] -> augmented there.
The order of an epoch is a function of (seed, epoch), and a resumed run skips the batches that it
has seen. So it sees the same batches as a run that was never interrupted.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from src.core.pixels import to_float
from src.core.progress import progress
from src.core.randomness import CounterRNG, derive_seed
from src.data.images import Images, ImageSet, WithIndex
from src.data.order import Stage, loader
from src.data.transforms.augment import Augment
from src.data.transforms.pixels import permute_pixels


class DataModule(pl.LightningDataModule):
    """Base of all data sets. A subclass overrides the attributes that differ.

    `docs/adding-a-dataset.md` has a worked example: a set of images needs a subclass of
    `src.data.image_data.ImageData` with one method, and a file in `conf/data/`.

    A data set has `name`, and after `setup()` its parts `train`, `val` and `test`, each with a
    length; an empty `val` or `test` has no loader. Batches of images are (images, labels):
    float32 (B, C, H, W) in [0, 1] on the device and int64 (B,), -1 without labels. The order of an
    epoch and all that is random about a batch depend on (seed, epoch, batch) alone.

    The checks of a config read these attributes from the source, without importing the module. So
    write them as literals.

    Attributes:
        holds: the kind of data, which a model names in `takes`.
        can_augment: whether `augment` applies to its training data.
        supports: its own settings that cannot have every value: {setting: (the possible values, why
            no others)}.
        state_keys: keys of `state_dict` that each checkpoint holds, by which it knows what data its
            model learned from.
        labeled: whether its items carry labels.
    """

    holds: ClassVar[str] = "images"
    can_augment: ClassVar[bool] = True
    supports: ClassVar[dict[str, tuple[tuple[Any, ...], str]]] = {}
    state_keys: ClassVar[tuple[str, ...]] = ("class_names", "permutation")
    labeled: bool = True

    @property
    def running_trainer(self) -> pl.Trainer:
        """The Trainer that this data set feeds."""
        assert self.trainer is not None  # only called while it runs
        return self.trainer

    @property
    def epoch(self) -> int:
        """Number of epochs that the Trainer has finished."""
        return progress(self.running_trainer).epoch


class ImageBatches(DataModule):
    """Turn three sets of images into batches: loaders, transfer to the device, augmentation there.

    Attributes:
        train, val, test: the three sets.
        augment: transforms for training images; None: none.
        permutation: (H * W,) an order for the pixels of all images; None: as they are.
        randomizes: whether `randomize` makes each epoch see a different version of an image.
        transforms_training: whether training images are changed before the model sees them.
    """

    train: Images
    val: Images
    test: Images
    augment: Augment | None
    permutation: Tensor | None
    num_classes: int | None
    batch_size: int
    eval_batch_size: int
    seed: int
    workers: int
    randomizes: Any
    transforms_training: Any

    @abstractmethod
    def randomize(self, images: Tensor, noise: torch.Generator) -> Tensor:
        """Turn stored images (B, C, H, W) in [0, 1] into a random version of them."""

    def train_dataloader(self) -> Iterable[Any]:
        return self._loader(self.train, "train")

    def val_dataloader(self) -> Iterable[Any]:
        return self._loader(self.val, "val") if len(self.val) else []

    def test_dataloader(self) -> Iterable[Any]:
        return self._loader(self.test, "test") if len(self.test) else []

    def _loader(self, part: Images, stage: Stage) -> Any:
        trainer, training = self.trainer, stage == "train"
        nbytes = getattr(part, "nbytes", None)  # None: the images are in files
        device = trainer.strategy.root_device if trainer is not None else None
        if nbytes is not None and device is not None and _fits(nbytes, device):
            part = cast(Any, part).to(device)
        return loader(
            WithIndex(part) if training and self.augment is not None else part,
            self.batch_size if training else self.eval_batch_size,
            self.seed,
            stage,
            trainer,
            workers=0 if nbytes is not None else self.workers,
        )

    def transfer_batch_to_device(
        self, batch: tuple[Tensor, ...], device: torch.device, dataloader_idx: int
    ) -> tuple[Tensor, ...]:
        """Transfer images and labels; `CounterRNG` needs the images' indices on the CPU."""
        pixels, labels, *indices = batch
        if pixels.device == device:  # a set in memory may be there already
            return batch
        on_device = super().transfer_batch_to_device((pixels, labels), device, dataloader_idx)
        return (*on_device, *indices)

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, ...], dataloader_idx: int
    ) -> tuple[Tensor, Tensor]:
        """Prepare a batch on the device.

        Args:
            batch: images (B, C, H, W) uint8, labels (B,), and in training with augmentation the
                indices (B,) of the images.

        Returns:
            Images (B, C, H, W) float32 in [0, 1], and labels: (B,), or (B, num_classes) if images
            were mixed.
        """
        pixels, labels, *indices = batch
        images, trainer = to_float(pixels), self.trainer
        if trainer is not None and trainer.training and self.transforms_training:
            number = trainer.fit_loop.epoch_loop.batch_progress.current.ready
            position = (self.epoch, number, trainer.global_rank)
            return self.transform_training(
                images, labels, indices[0] if indices else None, position
            )
        # sets in memory that nothing transforms are permuted once, in `setup`
        if self.permutation is not None and not isinstance(self.train, ImageSet):
            images = permute_pixels(images, self.permutation)
        return images, labels

    def transform_training(
        self,
        images: Tensor,
        labels: Tensor,
        indices: Tensor | None,
        position: tuple[int, int, int],
    ) -> tuple[Tensor, Tensor]:
        """Augment, randomize, then permute, so that binarized images stay binary.

        Augmentation is a function of (seed, epoch, image), and for mixup and cutmix of the other
        images of the batch; randomization of (seed, position).

        Args:
            images: (B, C, H, W) in [0, 1].
            labels: (B,).
            indices: (B,) of the images in the training set; None: do not augment.
            position: epoch, number of the batch in it, and process.
        """
        if self.augment is not None and indices is not None:
            images, labels = self._augmented(self.augment, images, labels, indices, position[0])
        if self.randomizes:
            seed = derive_seed(self.seed, "vary", *position)
            images = self.randomize(images, torch.Generator(images.device).manual_seed(seed))
        if self.permutation is not None:
            images = permute_pixels(images, self.permutation)
        return images, labels

    def _augmented(
        self, augment: Augment, images: Tensor, labels: Tensor, indices: Tensor, epoch: int
    ) -> tuple[Tensor, Tensor]:
        rng = CounterRNG(indices, self.seed, "augment", epoch=epoch)
        return augment(images, labels, rng, self.num_classes if self.labeled else None)


def _fits(nbytes: int, device: torch.device) -> bool:
    """Return whether a set fits on `device` with as much memory left for training."""
    return device.type != "cuda" or 2 * nbytes < torch.cuda.mem_get_info(device)[0]
