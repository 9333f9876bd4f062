"""The photos as each recipe wants them, and the features that recipes share."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from src.core.errors import UserError
from src.core.files import Damaged, load_checked, write_atomically
from src.core.threads import one_thread
from src.engine import build
from src.engine.instantiate import instantiate_node
from src.nanonet.recipes import (
    Features,
    Prediction,
    Recipe,
    embed,
    linear_head,
    predict,
    train_head,
    train_on,
)

HEAD = ("num_classes", "hidden", "dropout")  # settings of a net that do not change its features


class Lab:
    """Trains recipes on parts of the photos.

    Args:
        digests: of the N photos, in the order of the data set.
        folder: for the features, which a later search can use again.
        earlier: such folders of earlier searches.
    """

    def __init__(self, digests: Sequence[str], folder: Path, earlier: Sequence[Path] = ()) -> None:
        self.digests, self.folder, self.earlier = list(digests), folder, list(earlier)
        self._data: dict[str, Any] = {}
        self._features: dict[str, Features] = {}  # by their key, see `_key`
        self._keys: dict[tuple[str, ...], str] = {}  # by the overrides of a recipe

    def data(self, recipe: Recipe) -> Any:
        """Return the data module of a recipe; recipes with the same settings share one."""
        key = OmegaConf.to_yaml(recipe.cfg.data) + OmegaConf.to_yaml(recipe.cfg.augment)
        if key not in self._data:
            data = build.datamodule(recipe.cfg)
            if len(data.train) != len(self.digests):
                raise UserError(
                    f"data.root={data.root}: photos were added or removed during the search: "
                    "start the command again"
                )
            self._data[key] = data
        return self._data[key]

    def prepare(self, recipe: Recipe) -> None:
        """Compute all that the folds of a recipe share: decoded photos, and fixed features."""
        if recipe.fixed_features:
            self.features(recipe)
        else:
            self.data(recipe)

    def predict(
        self, recipe: Recipe, train: Tensor, held_out: Tensor, seconds: float = math.inf
    ) -> Prediction:
        """Train `recipe` on photos, and predict others.

        Args:
            train, held_out: indices (N,) and (M,).
            seconds: that training by the Trainer may take; heads are fast.

        Raises:
            OutOfTime: it takes longer.
        """
        data = self.data(recipe)
        if not recipe.fixed_features:
            return train_on(recipe, data, train, held_out, self.folder / "trainer", seconds)
        features = self.features(recipe)
        known = features.at(train)
        tta = instantiate_node(recipe.cfg.model.tta, "model.tta")
        with one_thread():
            head = train_head(recipe, data, known, data.train.labels[train])
            return predict(head, known, features.at(held_out), tta)

    def features(self, recipe: Recipe) -> Features:
        """Return the features of all photos: known ones from disk, new ones from the net."""
        overrides = tuple(recipe.overrides)
        if overrides in self._keys:
            return self._features[self._keys[overrides]]
        data = self.data(recipe)
        torch.manual_seed(recipe.cfg.seed)
        model: Any = build.model(recipe.cfg, data)
        model.load_pretrained(data)
        key = _key(model, recipe)
        self._keys[overrides] = key
        if key not in self._features:
            self._features[key] = self._embed_new(model, data, recipe.name, key)
        return self._features[key]

    def _embed_new(self, model: Any, data: Any, title: str, key: str) -> Features:
        """Return the features called `key` of all photos; save those that are on no disk yet."""
        name = f"features-{key}.pt"
        known: dict[str, Tensor] = {}
        for folder in (*self.earlier, self.folder):
            known |= _load(folder / name)
        new = [i for i, digest in enumerate(self.digests) if digest not in known]
        if new:
            found = embed(model, data, torch.tensor(new), f"{title}: features")
            rows = torch.stack(found, 1)  # (B, 2, D)
            known |= {self.digests[i]: row for i, row in zip(new, rows, strict=True)}
            own = {digest: known[digest].clone() for digest in self.digests}
            write_atomically(self.folder / name, lambda path: torch.save(own, path))
        both = torch.stack([known[digest] for digest in self.digests])  # (N, 2, D)
        return Features(both[:, 0].contiguous(), both[:, 1].contiguous())


def _key(model: Any, recipe: Recipe) -> str:
    """Name all that features depend on: the frozen weights, and how photos are prepared.

    Recipes that differ in their heads only have the same key.
    """
    digest = hashlib.blake2b(digest_size=8)
    head = set(linear_head(model.net).parameters())
    states: dict[str, Tensor] = {"mean": model.mean, "std": model.std}
    states |= dict(model.net.named_buffers())
    states |= {name: p for name, p in model.net.named_parameters() if p not in head}
    for name, value in states.items():
        digest.update(f"{name.removeprefix('body.')} {tuple(value.shape)}".encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    data = recipe.cfg.data
    how = (data.size, data.channels, data.background, data.crop, data.interpolation)
    net: Any = OmegaConf.to_container(recipe.cfg.model.net, resolve=True)
    features = {name: value for name, value in net.items() if name not in HEAD}
    digest.update(repr((how, features)).encode())
    return digest.hexdigest()


def _load(path: Path) -> dict[str, Tensor]:
    """Return features by digest; {} if there are none, or they are damaged."""
    try:
        return dict(load_checked(path))
    except (FileNotFoundError, Damaged, TypeError, ValueError):
        return {}
