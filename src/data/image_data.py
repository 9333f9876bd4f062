"""Images as a data module: read, split, resized, and kept as uint8 or decoded as needed."""

import logging
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from src.core.counts import count
from src.core.errors import UserError
from src.core.files import shared_folder
from src.core.pixels import to_float, to_uint8
from src.core.randomness import generator
from src.core.types import (
    Color,
    Fraction,
    ImageSize,
    Interval,
    NonNegativeInt,
    PathText,
    PositiveInt,
    Resumable,
    Seed,
    Share,
    height_width,
)
from src.data.base import ImageBatches
from src.data.images import Images, ImageSet, Splits, channel_moments, fitting_batch
from src.data.splits import (
    check_labels,
    expect_same_classes,
    expect_same_pool,
    first_of_each_class,
    missing_classes,
    resolve_count,
    stratified_sample,
    stratified_split,
)
from src.data.transforms.augment import Augment
from src.data.transforms.pixels import binarize, permute_pixels, resize, same_order

log = logging.getLogger(__name__)


class ImageData(ImageBatches, ABC):
    """Three disjoint sets of images. A subclass implements `read`, which says where they come from.

    Args:
        name: name of the set in metrics and file names.
        size: height and width of the images, one number for a square; others are resized.
        channels: 1 or 3. Gray images are repeated, color images converted to luma (ITU-R BT.601).
        num_classes: number of labels; None for a set without labels.
        root: the folder that holds the data.
        batch_size: images per training batch.
        eval_batch_size: images per batch of validation and test; None: see `fitting_batch`.
        train_size: number of training images; None: all that are not validation images.
        train_per_class: training images of each class, drawn by `split_seed`; replaces
            `train_size`.
        val_size: validation images, split off from the training set by `split_seed` so that each
            class keeps its share; below 1: a fraction. Ignored if the source has a validation set.
        test_size: the same for the test set. Ignored if the source has a test set.
        split_seed: seed of these splits. It is not `seed`, so that runs with different seeds are
            evaluated on the same images.
        limit: largest number of images in each set, for a quick test. They are drawn by
            `split_seed`, and each class keeps its share. None: all images.
        in_memory: True: keep the decoded set in memory (on the device, if it fits there); False:
            decode each batch; `auto`: keep up to 4 GiB, and a quarter of the machine's memory.
        workers: processes that decode images of a set that is not in memory.
        cache: folder shared by all runs, in which decoded images are kept; None: no cache.
        background: color behind transparent image files: a name or notation that Pillow knows, or
            [red, green, blue] from 0 to 255.
        crop: part of an image's height and width that is kept, from the center.
        interpolation: how it is resized, with antialiasing.
        download: download a missing set.
        seed: seed of the run, on which the order of the epochs depends.
        permute: reorder the pixels of all images by one permutation, drawn by `split_seed`. A
            network then gains nothing from knowing which pixels are neighbors.
        binarize: draw each pixel, 1 with the probability of its value: every time in training, once
            (by `split_seed`) for validation and test.
    """

    def __init__(
        self,
        name: str,
        size: ImageSize,
        channels: Literal[1, 3],
        num_classes: PositiveInt | None,
        root: PathText,
        batch_size: PositiveInt,
        eval_batch_size: PositiveInt | None,
        train_size: PositiveInt | None,
        val_size: NonNegativeInt | Fraction,
        test_size: NonNegativeInt | Fraction,
        split_seed: Seed,
        limit: PositiveInt | None,
        in_memory: Literal["auto", True, False],
        workers: Resumable[Annotated[int, Interval(ge=0, le=256)]],
        download: Resumable[bool],
        seed: Seed,
        permute: bool,
        binarize: bool,
        cache: PathText | None = None,
        background: Color = "white",
        crop: Share = 1.0,
        interpolation: Literal["bilinear", "bicubic"] = "bilinear",
        train_per_class: PositiveInt | None = None,
    ) -> None:
        super().__init__()
        self.name: str = name
        self.size = height_width(size)
        self.channels, self.num_classes, self.binarize = channels, num_classes, binarize
        self.root = Path(root).expanduser()
        self.batch_size, self.seed = batch_size, seed
        self.eval_batch_size = eval_batch_size or fitting_batch(self.size)
        self.train_size, self.val_size, self.test_size = train_size, val_size, test_size
        self.train_per_class = train_per_class
        self.split_seed, self.limit, self.download = split_seed, limit, download
        self.in_memory, self.workers = in_memory, workers
        self.cache = shared_folder(cache)
        self.background, self.crop, self.interpolation = background, crop, interpolation
        self.permutation: Tensor | None = None
        if permute:
            noise = generator(split_seed, "permute")
            self.permutation = torch.randperm(self.size[0] * self.size[1], generator=noise)
        self.class_names: list[str] = [str(label) for label in range(num_classes or 0)]
        self.augment: Augment | None = None  # applied to training images only
        # the files from which the test set, and the others, are drawn: see `listing`
        self.pool: str | None = None
        self.training_files: str | None = None

    @abstractmethod
    def read(self) -> Splits:
        """Read the source's images, in their own size and channels.

        Raises:
            UserError: a file is missing or damaged; the message names it.
        """

    def setup(self, stage: str | None = None) -> None:
        """Read, check, split and resize the images. Does this once, whatever the stage."""
        if hasattr(self, "train"):
            return
        splits = self.read()
        check_labels(splits, self.num_classes, f"{self.name} in {self.root}")
        train, val = self._split(splits)
        parts: dict[str, Images] = {"training": train, "validation": val, "test": splits.test}
        if missing := missing_classes(parts, self.class_names):
            log.info("%s: classes without images in %s", self.name, missing)
        sets = [
            part.subset(stratified_sample(part.labels, self.limit, self.split_seed, "limit"))
            for part in (train, val, splits.test)
        ]
        self.train, self.val, self.test = (self._resized(part) for part in sets)
        if self.randomizes:
            self.val = self._randomized_once(self.val, "val")
            self.test = self._randomized_once(self.test, "test")
        self.val, self.test = self._permuted(self.val), self._permuted(self.test)
        if not self.transforms_training:
            self.train = self._permuted(self.train)

    def full_training_set(self) -> Images:
        """Read all training images of the source again, as a model sees them.

        Includes those that validation, train_size and limit leave out.
        """
        data_log = logging.getLogger("src.data")
        level = data_log.level
        data_log.setLevel(logging.WARNING)  # the first reading has logged everything already
        try:
            return self._permuted(self._resized(self.read().train))
        finally:
            data_log.setLevel(level)

    def set_classes(self, class_names: list[str], folder: Path) -> None:
        """Set the class names that were found in `folder`.

        Raises:
            UserError: data.num_classes is another number.
        """
        if self.num_classes not in (None, len(class_names)):
            raise UserError(
                f"data.num_classes={self.num_classes}, "
                f"but {folder} holds {count(len(class_names), 'class')}"
            )
        self.class_names, self.num_classes = class_names, len(class_names)

    def _split(self, splits: Splits) -> tuple[Images, Images]:
        """Cut training and validation images out of the official training set."""
        full = splits.train
        n_val = 0 if splits.val is not None else resolve_count(self.val_size, len(full))
        n_train = len(full) - n_val if self.train_size is None else self.train_size
        if n_train < 1 or n_train + n_val > len(full):
            raise UserError(
                f"data.train_size={self.train_size} and data.val_size={self.val_size} do not fit "
                f"{self.name}: its training set has {count(len(full), 'image')}"
            )
        order = torch.randperm(len(full), generator=generator(self.split_seed, "split"))
        val, rest = stratified_split(full.labels, order, n_val)
        drawn, _ = stratified_split(full.labels, rest, n_train)
        if self.train_per_class is not None:
            labels = full.labels[drawn]
            drawn = drawn[first_of_each_class(labels, self.train_per_class, self.class_names)]
        train = full.subset(drawn.sort().values)
        return train, splits.val if splits.val is not None else full.subset(val.sort().values)

    def _resized(self, part: Images) -> Images:
        if not isinstance(part, ImageSet) or part.is_resized:
            return part
        images = resize(part.images, self.size, self.channels, self.crop, self.interpolation)
        return ImageSet(images, part.labels)

    def _permuted(self, part: Images) -> Images:
        if self.permutation is None or not isinstance(part, ImageSet):
            return part
        return ImageSet(permute_pixels(part.images, self.permutation), part.labels)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the training pixels, see `channel_moments`."""
        return channel_moments(self.train, self.size[0] * self.size[1], self.binarize)

    def eval_images(self, part: Images, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images of `part` as a model sees them in evaluation, and their labels.

        Args:
            part: one of the sets.
            indices: (B,).

        Returns:
            Images (B, C, H, W) in [0, 1] on the CPU, and labels (B,).
        """
        pixels, labels = part[indices]
        images = to_float(pixels)
        permuted_already = isinstance(part, ImageSet) and not (
            part is self.train and self.transforms_training
        )
        if self.permutation is not None and not permuted_already:
            images = permute_pixels(images, self.permutation)
        return images, labels

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs to know of the data."""
        files = {"pool": self.pool, "training_files": self.training_files}
        return {"class_names": self.class_names, "permutation": self.permutation, **files}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare with the data that a checkpoint's model was trained on.

        Raises:
            UserError: the class names, the order of the pixels or the files differ.
        """
        learned = state_dict.get("class_names", self.class_names)
        expect_same_classes(self.class_names, learned, f"{self.name} in {self.root}")
        expect_same_pool(self.pool, state_dict.get("pool", self.pool), str(self.root))
        if not same_order(self.permutation, state_dict.get("permutation", self.permutation)):
            raise UserError(
                f"{self.name}: the pixels have another order than in the data of the run "
                "(data.permute, data.size)"
            )

    @property
    def randomizes(self) -> bool:
        """Whether each epoch sees a different random version of an image."""
        return self.binarize

    @property
    def transforms_training(self) -> bool:
        """Whether training images are changed before the model sees them."""
        return self.randomizes or self.augment is not None

    @property
    def pixel_kind(self) -> str:
        """How pixel values are made. Likelihoods are comparable only within one kind."""
        if self.binarize:
            return "binarized each epoch"
        return "gray" if self.channels == 1 else "color"

    def randomize(self, images: Tensor, noise: torch.Generator) -> Tensor:
        """Turn stored images (B, C, H, W) in [0, 1] into a random version of them.

        Args:
            noise: a generator on the same device.
        """
        return binarize(images, noise) if self.binarize else images

    def _randomized_once(self, part: Images, stage: str) -> Images:
        """Randomize `part` once, so that all runs and epochs are evaluated on the same images."""
        if not isinstance(part, ImageSet):
            raise UserError(
                "data.binarize draws validation and test images once: "
                f"{self.name} must be kept in memory for it"
            )
        noise = generator(self.split_seed, "vary", stage)
        batches = [
            to_uint8(self.randomize(to_float(images), noise)) for images in part.images.split(1000)
        ]
        return ImageSet(torch.cat(batches), part.labels)
