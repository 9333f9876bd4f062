"""How a data set becomes batches: uint8 in memory, one index operation a batch, floats in [0, 1] on the device.

The order of an epoch is a function of (seed, epoch), and a resumed run skips to its batch, so it sees what the uncut run saw.
"""

import logging
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from src.core.errors import UserError
from src.core.randomness import CounterRNG, derive_seed, generator
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
)
from src.data.cache import shared_folder
from src.data.images import (
    Images,
    ImageSet,
    Splits,
    WithIndex,
    first_of_each_class,
    missing_classes,
    resolve_count,
    stratified_sample,
    stratified_split,
)
from src.data.order import loader
from src.data.transforms.augment import Augment
from src.data.transforms.pixels import (
    binarize,
    permute_pixels,
    resize,
    same_order,
    to_float,
    to_uint8,
)

log = logging.getLogger(__name__)


class DataModule(pl.LightningDataModule):
    """Base of all data sets. A subclass overrides the attributes that differ.

    The checks of a config read these from the source, without importing the module. So write them as literals.

    Attributes:
        holds: the kind of data, which a model names in `takes`.
        path_settings: the settings that say where the files are. They may differ when a run is resumed or evaluated.
        can_augment: whether `augment` applies to its training data.
        refuses: its own settings that cannot have every value: {setting: (the possible values, the reason)}.
        state_keys: the keys of `state_dict`, by which a checkpoint knows what data its model learned from.
        labelled: whether its items carry labels.
    """

    holds: ClassVar[str] = "images"
    path_settings: ClassVar[tuple[str, ...]] = ("root",)
    can_augment: ClassVar[bool] = True
    refuses: ClassVar[dict[str, tuple[tuple[Any, ...], str]]] = {}
    state_keys: ClassVar[tuple[str, ...]] = ("class_names", "permutation")
    labelled: bool = True


class ImageData(DataModule, ABC):
    """Three disjoint sets of images; a subclass says where they come from by `read`.

    Args:
        name: what the set is called in figures and file names.
        size: height and width of the images, one number for a square; others are resized (bilinear, antialiased).
        channels: 1 or 3; grey is repeated, colour is weighted to luma (ITU-R 601).
        num_classes: how many labels there are, None for a set without labels.
        root: the folder that holds the data.
        batch_size: images a training batch.
        eval_batch_size: images a batch of validation and test.
        train_size: images to train on, None for all that validation leaves.
        train_per_class: instead of it, images of each class to train on, drawn by `split_seed`.
        val_size: images cut from the official training set by `split_seed`, of each class its share, unless the source brings
            its own; below 1: a fraction of it.
        test_size: likewise for the test, where the source has no test set of its own; ignored elsewhere.
        split_seed: of that cut; apart from `seed`, so that runs of different seeds are measured on the same images.
        limit: at most so many images of each set, drawn by `split_seed`, each class in its share (for a quick look), None for
            all.
        in_memory: `auto`, True or False: keep the decoded set in memory (on the device, where it fits).
        workers: processes that decode images of a set that is not in memory.
        cache: the folder of what many runs share, where decoded images are kept; None: they are kept nowhere.
        background: the colour behind what is transparent in an image file, a name or notation of Pillow's, or [red, green,
            blue] from 0 to 255.
        download: fetch an absent set.
        seed: of the run; the order of the epochs depends on it.
        permute: put each image's pixels in another order, one for all images, drawn by `split_seed`: what a net knows of
            neighbours is then of no use to it.
        binarize: draw each pixel, 1 with its value's probability: anew each time that training sees it, once by `split_seed`
            in the other sets.
    """

    def __init__(
        self,
        name: str,
        size: ImageSize,
        channels: Literal[1, 3],
        num_classes: PositiveInt | None,
        root: PathText,
        batch_size: PositiveInt,
        eval_batch_size: PositiveInt,
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
        train_per_class: PositiveInt | None = None,
    ) -> None:
        super().__init__()
        self.name: str = name
        self.size: tuple[int, int] = (size, size) if isinstance(size, int) else (size[0], size[1])
        self.channels, self.num_classes, self.binarize = channels, num_classes, binarize
        self.root = Path(root).expanduser()
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.train_size, self.val_size, self.test_size = train_size, val_size, test_size
        self.train_per_class = train_per_class
        self.split_seed, self.limit, self.seed = split_seed, limit, seed
        self.in_memory, self.workers, self.download = in_memory, workers, download
        self.cache = shared_folder(cache)
        self.background = background
        pixels = self.size[0] * self.size[1]
        self.permutation = (
            torch.randperm(pixels, generator=generator(split_seed, "permute")) if permute else None
        )
        self.class_names: list[str] = [str(label) for label in range(num_classes or 0)]
        self.augment: Augment | None = None  # of training images alone
        self.train: Images
        self.val: Images
        self.test: Images

    @abstractmethod
    def read(self) -> Splits:
        """The source's images, in its own size and channels. Raises UserError that names the file at fault."""

    def setup(self, stage: str | None = None) -> None:
        """Read, check, split, resize; once, whatever the stage."""
        if hasattr(self, "train"):
            return
        splits = self.read()
        self._check_labels(splits)
        train, val = self._cut(splits)
        cut: dict[str, Images] = {"training": train, "validation": val, "test": splits.test}
        if without := missing_classes(cut, self.class_names):
            log.info("%s: classes without images in %s", self.name, without)
        sets = [
            part.subset(stratified_sample(part.labels, self.limit, self.split_seed, "limit"))
            for part in (train, val, splits.test)
        ]
        self.train, self.val, self.test = (self._resized(part) for part in sets)
        if self.randomizes:
            self.val, self.test = (
                self._randomized_once(self.val, "val"),
                self._randomized_once(self.test, "test"),
            )
        self.val, self.test = self._permuted(self.val), self._permuted(self.test)
        if not self.transforms_training:
            self.train = self._permuted(self.train)

    def full_training_set(self) -> Images:
        """Read all that the source has to train on again, as a model sees it: whatever validation, train_size and limit take of
        it."""
        level = log.level
        log.setLevel(logging.WARNING)  # what there is to say of the files has been said
        try:
            return self._permuted(self._resized(self.read().train))
        finally:
            log.setLevel(level)

    def set_classes(self, class_names: list[str], where: Path) -> None:
        """Take the names of the classes that are in `where`; raises UserError where data.num_classes says another number."""
        if self.num_classes not in (None, len(class_names)):
            raise UserError(
                f"data.num_classes={self.num_classes}, but {where} holds {len(class_names)} classes"
            )
        self.class_names, self.num_classes = class_names, len(class_names)

    def _cut(self, splits: Splits) -> tuple[Images, Images]:
        n_val = 0 if splits.val is not None else resolve_count(self.val_size, len(splits.train))
        n_train = len(splits.train) - n_val if self.train_size is None else self.train_size
        if n_train < 1 or n_train + n_val > len(splits.train):
            raise UserError(
                f"data.train_size={self.train_size} and data.val_size={self.val_size} do not fit {self.name}: "
                f"its training set has {len(splits.train)} images"
            )
        order = torch.randperm(len(splits.train), generator=generator(self.split_seed, "split"))
        val, rest = stratified_split(splits.train.labels, order, n_val)
        held_out = splits.train.subset(val.sort().values)
        drawn, _ = stratified_split(splits.train.labels, rest, n_train)
        if self.train_per_class is not None:
            drawn = drawn[
                first_of_each_class(
                    splits.train.labels[drawn], self.train_per_class, self.class_names
                )
            ]
        train = splits.train.subset(drawn.sort().values)
        return train, splits.val if splits.val is not None else held_out

    def _check_labels(self, splits: Splits) -> None:
        for part in (splits.train, splits.val, splits.test):
            if self.num_classes is None or part is None or not len(part):
                continue
            labels = part.labels
            if labels.min() < 0 or labels.max() >= self.num_classes:
                bad = labels.max() if labels.max() >= self.num_classes else labels.min()
                raise UserError(
                    f"{self.name} in {self.root}: a label is {int(bad)}, but {self.num_classes} classes "
                    f"have labels 0 to {self.num_classes - 1}"
                )

    def _resized(self, part: Images) -> Images:
        if not isinstance(part, ImageSet):
            return part
        return ImageSet(resize(part.images, self.size, self.channels), part.labels)

    def _permuted(self, part: Images) -> Images:
        if self.permutation is None or not isinstance(part, ImageSet):
            return part
        return ImageSet(permute_pixels(part.images, self.permutation), part.labels)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the training images' pixels in [0, 1], one a channel, (C,), in float64."""
        n, total, squares = (
            0,
            torch.zeros(self.channels, dtype=torch.float64),
            torch.zeros(self.channels, dtype=torch.float64),
        )
        for indices in torch.arange(len(self.train)).split(
            max(1, 2**22 // (self.size[0] * self.size[1]))
        ):  # bounds memory
            values = (
                self.train[indices][0].double().div(255).transpose(0, 1).flatten(1)
            )  # (C, B * H * W)
            n, total, squares = (
                n + values.shape[1],
                total + values.sum(1),
                squares + values.square().sum(1),
            )
        std = (squares / n - (total / n).square()).clamp(min=0).sqrt()
        return total / n, torch.where(
            std < 1 / 1024, 1.0, std
        )  # a channel that never changes says nothing

    def eval_images(self, part: Images, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images of `part` (B, C, H, W) in [0, 1] as a model meets them when it is measured, on the CPU, and their labels."""
        pixels, labels = part[indices]
        images = to_float(pixels)
        rests_permuted = isinstance(part, ImageSet) and not (
            part is self.train and self.transforms_training
        )
        if self.permutation is not None and not rests_permuted:
            images = permute_pixels(images, self.permutation)
        return images, labels

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must know of the images to be asked about others: the classes' names, the pixels' order."""
        return {"class_names": self.class_names, "permutation": self.permutation}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise UserError where these are not the classes or the pixels' order that a checkpoint's model has learned."""
        now, learned = self.class_names, state_dict.get("class_names", self.class_names)
        if now != learned:
            new, gone = (
                [name for name in now if name not in learned],
                [name for name in learned if name not in now],
            )
            words = [
                f"{word} {', '.join(names)}"
                for word, names in (("new:", new), ("gone:", gone))
                if names
            ]
            what = "; ".join(words) or "the same in another order"
            raise UserError(
                f"{self.name} in {self.root} has other classes than the run learned ({what})"
            )
        if not same_order(self.permutation, state_dict.get("permutation", self.permutation)):
            raise UserError(
                f"{self.name}: the pixels stand in another order than the run learned (data.permute, data.size)"
            )

    @property
    def randomizes(self) -> bool:
        """Is an image another each time that training sees it?"""
        return self.binarize

    @property
    def transforms_training(self) -> bool:
        """Is anything done to a training image before the model sees it?"""
        return self.randomizes or self.augment is not None

    @property
    def pixels(self) -> str:
        """What a likelihood of these images stands on: nats of the three are not to be compared."""
        return (
            "binarised anew each epoch"
            if self.binarize
            else "grey"
            if self.channels == 1
            else "colour"
        )

    def randomize(self, images: Tensor, noise: torch.Generator) -> Tensor:
        """(B, C, H, W) in [0, 1] as they rest -> as the model is to see them this time; `noise` lives on their device."""
        return binarize(images, noise) if self.binarize else images

    def _randomized_once(self, part: Images, stage: str) -> Images:
        """`part` as `randomize` leaves it, drawn once: measures of different runs and epochs are on the same images."""
        if not isinstance(part, ImageSet):
            raise UserError(
                f"data.binarize draws validation and test images once: {self.name} must be kept in memory for it"
            )
        noise = generator(self.split_seed, "vary", stage)
        batches = [
            to_uint8(self.randomize(to_float(images), noise)) for images in part.images.split(1000)
        ]
        return ImageSet(torch.cat(batches), part.labels) if batches else part

    def _loader(self, part: Images, training: bool) -> DataLoader:
        trainer = self.trainer
        nbytes = getattr(part, "nbytes", None)  # None: they lie in files
        if (
            trainer is not None
            and nbytes is not None
            and fits(nbytes, trainer.strategy.root_device)
        ):
            part = cast(Any, part).to(trainer.strategy.root_device)
        workers = 0 if nbytes is not None else self.workers
        source = WithIndex(part) if training and self.augment is not None else part
        return loader(
            source,
            self.batch_size if training else self.eval_batch_size,
            self.seed,
            training,
            trainer,
            workers,
        )

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train, training=True)

    def val_dataloader(self) -> DataLoader | list:
        return self._loader(self.val, training=False) if len(self.val) else []

    def test_dataloader(self) -> DataLoader | list:
        return self._loader(self.test, training=False) if len(self.test) else []

    def transfer_batch_to_device(
        self, batch: tuple[Tensor, ...], device: torch.device, dataloader_idx: int
    ) -> tuple[Tensor, ...]:
        """All but the images' numbers, by which `CounterRNG` draws on the CPU."""
        pixels, labels, *numbers = batch
        return (
            *super().transfer_batch_to_device((pixels, labels), device, dataloader_idx),
            *numbers,
        )

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, ...], dataloader_idx: int
    ) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) uint8 on the device -> float32 in [0, 1]; labels (B,), or (B, num_classes) where images were mixed."""
        pixels, labels, *numbers = batch
        images = to_float(pixels)
        changing = self.transforms_training and self.trainer is not None and self.trainer.training
        if changing:
            images, labels = self._transform(images, labels, *numbers)
        if self.permutation is not None and (
            changing or not isinstance(self.train, ImageSet)
        ):  # else they rest permuted
            images = permute_pixels(images, self.permutation)
        return images, labels

    def _transform(
        self, images: Tensor, labels: Tensor, numbers: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Augmented, each by draws of the image's own, then varied by a draw of this batch's: binarised images stay binary."""
        trainer = cast(Any, self.trainer)
        loop = trainer.fit_loop
        epoch, batch = (
            loop.epoch_progress.current.processed,
            loop.epoch_loop.batch_progress.current.ready,
        )
        if self.augment is not None and numbers is not None:
            classes = self.num_classes if self.labelled else None
            images, labels = self.augment(
                images, labels, CounterRNG(numbers, self.seed, "augment", epoch), classes
            )
        if self.randomizes:
            noise = torch.Generator(images.device).manual_seed(
                derive_seed(self.seed, "vary", epoch, batch, trainer.global_rank)
            )
            images = self.randomize(images, noise)
        return images, labels


def evenly_spaced(n: int, limit: int | None) -> Tensor:
    """Indices of at most `limit` of n images, evenly spread; to look at, since they stand for a set no better than its order
    does (see `src.data.images.sample`)."""
    few = min(n, limit or n)
    return torch.arange(few) * n // max(few, 1)


def fits(nbytes: int, device: torch.device) -> bool:
    """Is there room for so much on `device`, and as much again for training?"""
    return device.type != "cuda" or 2 * nbytes < torch.cuda.mem_get_info(device)[0]
