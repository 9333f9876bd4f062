"""Recipes of src.train on a part of the photos: train one, and return its logits on the rest."""

import copy
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from tqdm import tqdm

from src.config.checks import check
from src.config.compose import compose
from src.config.overrides import quoted
from src.core.errors import UserError
from src.core.randomness import CounterRNG
from src.data.order import EpochSampler
from src.data.transforms.augment import Augment
from src.data.transforms.geometric import Flip
from src.engine import build
from src.engine.fit import fit
from src.models.classifier import Classifier
from src.models.familiar import head_of, neighbor_distance
from src.models.tta import TTA
from src.optim.schedules import Plateau, unwrap_partial

BATCH = 64  # photos that are embedded at once


class Recipe(NamedTuple):
    """A way to train a classifier.

    Attributes:
        name: of its file in conf/candidate.
        overrides: what it adds to the command line of src.train.
        cfg: the checked config of src.train.
        origin: where it comes from, for the report.
    """

    name: str
    overrides: list[str]
    cfg: DictConfig
    origin: str = ""

    @classmethod
    def compose(
        cls, name: str, photos: Sequence[str], overrides: Sequence[str], origin: str = ""
    ) -> "Recipe":
        """Compose and check the config of a recipe.

        Args:
            name: of the candidate.
            photos: overrides that say which photos, and how to read them.
            overrides: those of the recipe.
            origin: where it comes from.

        Raises:
            UserError: an override is wrong.
        """
        own = [quoted(override) for override in overrides]
        try:
            cfg = compose("train", [*photos, *own])
            check(cfg)
        except UserError as error:
            raise UserError(f"candidate.{name}: {error}") from error
        return cls(name, own, cfg, origin)

    @property
    def fixed_features(self) -> bool:
        """Whether every epoch sees the same features of a photo, or those of its mirror image.

        Then they are computed only once, and only the head is trained, if `train_head` does all
        that the Trainer would do.
        """
        model, trainer, augment = self.cfg.model, self.cfg.trainer, build.augmentation(self.cfg)
        drops = model.net._target_.startswith("src.nets.timm_net.") and model.net.dropout
        fixed = model.transfer.freeze == "backbone" and model.transfer.unfreeze_epoch is None
        return bool(
            fixed
            and (augment is None or flip_of(augment) is not None)
            and not drops  # in the head; a frozen part drops nothing
            and trainer.gradient_clip_val is None
            and trainer.accumulate_grad_batches == 1
            and trainer.limit_train_batches is None
            and not model.ema
            and not model.tta.shift
            and not isinstance(instantiate(model.schedule), Plateau)
            and model.optimizer._target_ != "torch.optim.LBFGS"  # needs a closure
        )


def flip_of(augment: Augment) -> str | None:
    """Return the name of the only transform of `augment` if it flips left to right, else None."""
    names = [*augment.geometric, *augment.pixel_wise, *augment.mixing]
    only = augment.geometric.get(names[0]) if len(names) == 1 else None
    return names[0] if isinstance(only, Flip) and not only.vertical else None


class Prediction(NamedTuple):
    """The predictions of a network for M photos that it was not trained on.

    Attributes:
        logits: (M, K).
        distance: (M,) from the photos that it was trained on, see `neighbor_distance`.
    """

    logits: Tensor
    distance: Tensor


class OutOfTime(Exception):
    """Training has taken more time than it was given."""


class Deadline(pl.Callback):
    """Raise OutOfTime after a batch, once `seconds` have passed since the callback was built."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def on_train_batch_end(self, *args: Any) -> None:
        if time.monotonic() > self.end:
            raise OutOfTime


def train_on(
    recipe: Recipe,
    data: Any,
    train: Tensor,
    held_out: Tensor,
    scratch: Path,
    seconds: float = math.inf,
) -> Prediction:
    """Train by the Trainer on some photos, and predict others.

    Args:
        data: the data module with all photos in `data.train`.
        train, held_out: indices of photos, (N,) and (M,).
        scratch: a folder for temporary files.
        seconds: that training may take.

    Raises:
        OutOfTime: it takes longer.
    """
    torch.manual_seed(recipe.cfg.seed)
    part = copy.copy(data)
    part.train = data.train.subset(train)
    part.val = part.test = data.train.subset(held_out[:0])
    model: Any = build.model(recipe.cfg, part)
    linear_head(model.net)
    model.load_pretrained(part)
    cfg = recipe.cfg.copy()
    cfg.callbacks = cfg.logger = None
    trainer = build.trainer(cfg, scratch, Deadline(seconds), keep=False)
    fit(trainer, model, part, resume=False)
    model = model.eval().cpu()
    known, new = embed(model, data, train), embed(model, data, held_out)
    found = predict(linear_head(model.measured_net), known, new, model.tta)
    if model.tta.shift:  # moved images have other features
        found = found._replace(logits=_logits(model, data, held_out))
    return found


@torch.no_grad()
def _logits(model: Classifier, data: Any, indices: Tensor) -> Tensor:
    """Return the logits of photos by the whole model, with all views."""
    parts = [model(data.eval_images(data.train, few)[0]) for few in indices.split(BATCH)]
    return torch.cat(parts).float()


def linear_head(net: nn.Module) -> nn.Module:
    """Return the head of a network, which takes features (B, D).

    Raises:
        UserError: it is a convolution, which takes maps.
    """
    head = head_of(net)
    if isinstance(head, nn.Conv2d):
        raise UserError("the last layer is a convolution: a candidate needs a fully connected one")
    return head


class Features(NamedTuple):
    """The inputs of the head for N photos and for their mirror images, (N, D) each."""

    plain: Tensor
    mirrored: Tensor

    def at(self, indices: Tensor) -> "Features":
        """Return the features of the photos at `indices`."""
        return Features(self.plain[indices], self.mirrored[indices])


@torch.no_grad()
def embed(model: Classifier, data: Any, indices: Tensor, title: str | None = None) -> Features:
    """Return the features of photos, in evaluation mode.

    Args:
        data: the data module with all photos in `data.train`.
        indices: (N,).
        title: of a progress bar; None: no bar.
    """
    found: list[Tensor] = []
    net = model.eval().measured_net
    hook = linear_head(net).register_forward_pre_hook(
        lambda _, inputs: found.append(inputs[0].float())
    )
    batches = indices.split(BATCH)
    try:
        for few in tqdm(batches, title, disable=None if title else True, leave=False):
            images, _ = data.eval_images(data.train, few)
            for view in (images, images.flip(3)):
                net(model.scaled(view))
    finally:
        hook.remove()
    if not found:
        return Features(torch.empty(0, 0), torch.empty(0, 0))
    return Features(torch.cat(found[::2]), torch.cat(found[1::2]))


def train_head(recipe: Recipe, data: Any, features: Features, labels: Tensor) -> nn.Module:
    """Train the head on features of N photos, as the Trainer would with `recipe`.

    The initial weights, the order of the photos, their flips and the learning rates are those of
    the Trainer, so the result differs from its weights by rounding only.

    Args:
        data: the data module, without its photos' order or labels.
        labels: (N,).
    """
    cfg = recipe.cfg
    torch.manual_seed(cfg.seed)
    model: Any = build.model(cfg, data)
    model.load_pretrained(data)
    optimizer, head = model.configure_optimizers(), linear_head(model.net)
    schedule = unwrap_partial(model.schedule)
    epochs, augment = cfg.trainer.max_epochs, data.augment
    position = 0
    order = EpochSampler(
        len(labels), cfg.data.batch_size, cfg.seed, shuffle=True, position=lambda: (position, 0)
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    total = epochs * len(order)
    for position in range(epochs):
        for number, indices in enumerate(order):
            x = features.plain[indices]
            if augment is not None:
                rng = CounterRNG(indices, cfg.seed, "augment", epoch=position)
                flipped = augment.sample(rng, data.size)[flip_of(augment)]["flipped"].bool()
                x = torch.where(flipped[:, None], features.mirrored[indices], x)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule((position * len(order) + number) / total)
            optimizer.zero_grad()
            loss = F.cross_entropy(head(x), labels[indices], label_smoothing=model.label_smoothing)
            loss.backward()
            optimizer.step()
    return head


@torch.no_grad()
def predict(head: nn.Module, known: Features, new: Features, tta: TTA) -> Prediction:
    """Predict photos by their features.

    Args:
        head: features -> logits.
        known: features of the photos that the network was trained on.
        new: features of the photos to predict.
        tta: whether the logits are the mean of both views.
    """
    logits = head(new.plain)
    if tta.flip:
        logits = (logits + head(new.mirrored)) / 2
    unit, others = (F.normalize(features.plain, dim=1) for features in (known, new))
    return Prediction(logits / tta.temperature, neighbor_distance(others, unit))
