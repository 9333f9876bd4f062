"""Recipes of src.train on a part of the photos: train one, and return its logits on the rest."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

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
from src.nets.inspect import classifier_heads
from src.optim.schedules import Plateau, unwrap_partial

BATCH = 64  # photos that are embedded at once


class Recipe(NamedTuple):
    """A way to train a classifier.

    Attributes:
        name: of its file in conf/candidate.
        overrides: what it adds to the command line of src.train.
        cfg: the checked config of src.train.
    """

    name: str
    overrides: list[str]
    cfg: DictConfig

    @classmethod
    def compose(cls, name: str, photos: Sequence[str], overrides: Sequence[str]) -> "Recipe":
        """Compose and check the config of a recipe.

        Args:
            name: of the candidate.
            photos: overrides that say which photos, and how to read them.
            overrides: those of the recipe.

        Raises:
            UserError: an override is wrong.
        """
        own = [quoted(override) for override in overrides]
        try:
            cfg = compose("train", [*photos, *own])
            check(cfg)
        except UserError as error:
            raise UserError(f"candidate.{name}: {error}") from error
        return cls(name, own, cfg)

    @property
    def fixed_features(self) -> bool:
        """Whether every epoch sees the same features of a photo, or those of its mirror image.

        Then they are computed only once, and only the last layer is trained.
        """
        model, augment = self.cfg.model, build.augmentation(self.cfg)
        fixed = model.transfer.freeze == "backbone" and model.transfer.unfreeze_epoch is None
        return bool(
            fixed
            and (augment is None or flip_of(augment) is not None)
            and not model.ema
            and not model.tta.shift
            and not isinstance(instantiate(model.schedule), Plateau)
        )


def flip_of(augment: Augment) -> str | None:
    """Return the name of the only transform of `augment` if it flips left to right, else None."""
    names = [*augment.geometric, *augment.pixel_wise, *augment.mixing]
    only = augment.geometric.get(names[0]) if len(names) == 1 else None
    return names[0] if isinstance(only, Flip) and not only.vertical else None


def train_on(recipe: Recipe, data: Any, train: Tensor, held_out: Tensor, scratch: Path) -> Tensor:
    """Train by the Trainer on some photos; return the logits (M, K) of others.

    Args:
        data: the data module with all photos in `data.train`.
        train, held_out: indices of photos, (N,) and (M,).
        scratch: a folder for temporary files.
    """
    torch.manual_seed(recipe.cfg.seed)
    part = copy.copy(data)
    part.train = data.train.subset(train)
    part.val = part.test = data.train.subset(held_out[:0])
    model = build.model(recipe.cfg, part)
    model.load_pretrained(part)
    cfg = recipe.cfg.copy()
    cfg.callbacks = cfg.logger = None
    trainer = build.trainer(cfg, scratch, keep=False)
    fit(trainer, model, part, resume=False)
    model = model.eval().cpu()
    with torch.no_grad():
        batches = [model(data.eval_images(data.train, few)[0]) for few in held_out.split(BATCH)]
    return torch.cat(batches).float()


class Features(NamedTuple):
    """What the last layer sees of N photos, and of their mirror images: (N, D) each."""

    plain: Tensor
    mirrored: Tensor

    def at(self, indices: Tensor) -> "Features":
        """Return the features of the photos at `indices`."""
        return Features(self.plain[indices], self.mirrored[indices])


def features_of(model: Classifier, images: Tensor) -> Features:
    """Return the inputs of the last layer in evaluation mode.

    Args:
        images: (N, C, H, W) in [0, 1].
    """
    head, found = last_layer(model.net), list[Tensor]()
    hook = head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].float()))
    model.eval()
    try:
        with torch.no_grad():
            model.net(model.scaled(images))
            model.net(model.scaled(images.flip(3)))
    finally:
        hook.remove()
    return Features(*found)


def last_layer(net: nn.Module) -> nn.Module:
    """Return the layer that computes the logits."""
    return net.get_submodule(classifier_heads(net)[-1])


def train_head(recipe: Recipe, data: Any, features: Features, labels: Tensor) -> nn.Module:
    """Train the last layer on features of N photos, as the Trainer would with `recipe`.

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
    optimizer, head = model.configure_optimizers(), last_layer(model.net)
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
                rng = CounterRNG(indices, cfg.seed, "augment", position)
                flipped = augment.sample(rng, data.size)[flip_of(augment)]["flipped"].bool()
                x = torch.where(flipped[:, None], features.mirrored[indices], x)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule((position * len(order) + number) / total)
            optimizer.zero_grad()
            loss = F.cross_entropy(head(x), labels[indices], label_smoothing=model.label_smoothing)
            loss.backward()
            optimizer.step()
    return head


def logits_of(head: nn.Module, features: Features, flip: bool) -> Tensor:
    """Return the logits (N, K) of photos.

    Args:
        flip: average them over both views, as `model.tta.flip` does.
    """
    with torch.no_grad():
        plain = head(features.plain)
        return (plain + head(features.mirrored)) / 2 if flip else plain
