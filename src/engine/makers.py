"""Make new images for src.augment: by transforms, or by the models of finished runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from torch import Tensor

from src.callbacks.protocols import CanSampleClasses, CanTranslate
from src.core.counts import count
from src.core.errors import UserError
from src.core.randomness import CounterRNG
from src.data.folder_writer import Made, Maker
from src.data.image_data import ImageData
from src.data.transforms.augment import Augment
from src.engine.load import load_run

SPLIT = (  # settings of data that decide which images are for training
    "name",
    "test_size",
    "val_size",
    "split_seed",
    "train_size",
    "train_per_class",
    "classes",
    "limit",
)


def by_transforms(augment: Augment) -> Maker:
    """Return a maker that applies the transforms of conf/augment."""

    def make(image: Tensor, label: int, copy_rngs: list[CounterRNG]) -> Iterator[Made]:
        for rng in copy_rngs:
            values = augment.sample(rng, (image.shape[2], image.shape[3]))
            rounded = {
                name: {key: round(value.item(), 6) for key, value in one.items()}
                for name, one in values.items()
            }
            yield augment.apply(image, values, rng), rounded

    return make


def by_models(runs: list[str], to: str, data: ImageData, cfg: DictConfig) -> Maker:
    """Return a maker that uses the models of finished runs, one after another for the copies.

    A CycleGAN or a style transfer changes the image; a conditional GAN draws one of its class.

    Args:
        runs: their folders.
        to: the domain that a CycleGAN translates into, a or b.
        data: the data set to augment.
        cfg: the config of src.augment.

    Raises:
        UserError: a model can do neither, knows other classes, or was trained on other images than
            `cfg` trains on (so on images that are held out here); or two copies would be equal.
    """
    models = {folder: _load_model(folder, data, cfg) for folder in runs}
    translates = any(isinstance(model, CanTranslate) for model in models.values())
    if cfg.factor > len(runs) + 1 and translates:
        raise UserError(
            f"factor={cfg.factor}: a cyclegan or style_transfer makes one copy of each image, so "
            f"augment.run must name {cfg.factor - 1} runs or more, not {len(runs)}"
        )

    def make(image: Tensor, label: int, copy_rngs: list[CounterRNG]) -> Iterator[Made]:
        first = int(copy_rngs[0].fork("run").uniform() * len(runs))
        for copy, rng in enumerate(copy_rngs):
            folder = runs[(first + copy) % len(runs)]
            model = models[folder]
            if isinstance(model, CanTranslate):
                yield model.translate(image, to), {"run": folder, "to": to}
            else:
                noise = torch.Generator().manual_seed(int(rng.fork("noise").integer()))
                labels = torch.tensor([label])
                sampled = cast(CanSampleClasses, model).sample(1, noise, labels)
                yield sampled, {"run": folder}

    return make


def _load_model(folder: str, data: ImageData, cfg: DictConfig) -> pl.LightningModule:
    """Load the model of a run. Raises UserError if it cannot augment `data`."""
    run_cfg, model, data_state = load_run(Path(folder).expanduser(), which=cfg.augment.which)
    translates, channels = isinstance(model, CanTranslate), run_cfg.data.channels
    if not translates and not (isinstance(model, CanSampleClasses) and model.num_classes):
        raise UserError(
            f"augment.run={folder}: a {type(model).__name__} cannot translate images or sample "
            "classes; give a run of cyclegan, style_transfer or cdcgan"
        )
    if channels != data.channels:
        raise UserError(
            f"augment.run={folder} makes images with {count(channels, 'channel')}, "
            f"but the data has {data.channels}"
        )
    if not translates and (names := data_state["class_names"]) != data.class_names:
        raise UserError(
            f"augment.run={folder} has the classes {', '.join(names)}, "
            f"but the data has {', '.join(data.class_names)}"
        )
    if not translates and (other := _other_split(run_cfg.data, cfg.data)):
        raise UserError(
            f"augment.run={folder} was trained on other images, with {other}: set the same here"
        )
    return model


def _other_split(theirs: DictConfig, ours: DictConfig) -> str:
    """Return the data settings of a run with which it trained on other images; empty for none."""
    keys = SPLIT + (("root",) if theirs.name == "folder" else ())
    other = {k: theirs.get(k) for k in keys if _comparable(theirs, k) != _comparable(ours, k)}
    return " ".join(f"data.{k}={'null' if value is None else value}" for k, value in other.items())


def _comparable(settings: DictConfig, key: str) -> Any:
    value = settings.get(key)
    return Path(value).expanduser().resolve() if key == "root" and value else value
