"""A small classifier on the features of a network of timm: cut early, or seen at several sizes."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.core.types import ImageSize, height_width


class FeatureNet(nn.Module):
    """A network of timm without its last layer, and a new head on its pooled features.

    Args:
        body: a new network of timm.
        num_classes: number of logits.
        size: height and width of the images.
        cut: the level of `body` whose maps are pooled, counted as timm's `features_only` does: 0 is
            the first. Later layers are removed. None: the last maps, as `body` pools them.
        pool: `max`: take the maximum of each map instead of its average.
        sizes: the features are averaged over the image and its copies of these sizes.
        class_features: weight of the classes of `body`. Above 0, the features are divided by their
            root mean square, and the square roots of the class probabilities are appended. These
            have, for a weight of 1, the same length as the features.
        hidden: units of a hidden layer with ReLU in the head; None: there is no hidden layer.
        dropout: fraction of the features that is dropped before the head.

    Attributes:
        head: features (B, D) -> logits (B, num_classes).

    Raises:
        ValueError: `body` cannot be cut, or not there; it has no classes after a cut; or its last
            layers have no maps to take the maximum of.
    """

    def __init__(
        self,
        body: Any,
        num_classes: int,
        size: tuple[int, int],
        cut: int | None = None,
        pool: Literal["avg", "max"] = "avg",
        sizes: Sequence[ImageSize] = (),
        class_features: float = 0.0,
        hidden: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if class_features and cut is not None:
            raise ValueError(f"class_features needs all layers: with cut={cut} it must be 0")
        if pool == "max" and getattr(body, "output_fmt", "NCHW") != "NCHW":
            raise ValueError(f"pool=max: {type(body).__name__} of timm has no maps")
        self.body, self.cut, self.pool, self.class_features = body, cut, pool, class_features
        self.sizes = [height_width(other) for other in sizes]
        self.pretrained_cfg = {**body.pretrained_cfg, "classifier": "head"}
        if cut is not None:
            self._remove_layers_after(cut)
        elif not class_features:
            body.reset_classifier(0)
        with torch.no_grad():
            blank = torch.zeros(1, 3, *size, device=next(body.parameters()).device)
            width = self.train(False).features(blank).shape[1]
        self.train()
        layers: list[nn.Module] = [nn.Dropout(dropout)] if dropout else []
        if hidden is not None:
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        self.head = nn.Sequential(*layers, nn.Linear(width, num_classes))

    def _remove_layers_after(self, cut: int) -> None:
        name, levels = type(self.body).__name__, getattr(self.body, "feature_info", [])
        if not hasattr(self.body, "prune_intermediate_layers"):
            raise ValueError(f"cut={cut}: {name} of timm cannot be cut")
        if cut >= len(levels):
            raise ValueError(f"cut={cut}: {name} has the levels 0 to {len(levels) - 1}")
        self.body.prune_intermediate_layers([cut], prune_norm=True, prune_head=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, num_classes) of normalized images (B, 3, H, W)."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def features(self, x: Tensor) -> Tensor:
        """Return the input of the head, (B, D)."""
        total = self._features_at_one_size(x)
        for size in self.sizes:
            view = F.interpolate(x, size, mode="bicubic", antialias=True)
            total = total + self._features_at_one_size(view)
        return total / (1 + len(self.sizes))

    def _features_at_one_size(self, x: Tensor) -> Tensor:
        if self.cut is not None:
            (maps,) = self.body.forward_intermediates(x, [self.cut], intermediates_only=True)
            pooled: Tensor = maps.amax((2, 3)) if self.pool == "max" else maps.mean((2, 3))
            return pooled
        maps = self.body.forward_features(x)
        averaged = self.body.forward_head(maps, pre_logits=True)
        pooled = maps.amax((2, 3)) if self.pool == "max" else averaged
        if not self.class_features:
            return pooled
        # Square roots of probabilities are a vector of length 1 (Hellinger distance).
        roots = self.body.get_classifier()(averaged).float().softmax(1).sqrt()
        length = pooled.shape[1] ** 0.5
        return torch.cat(
            [length * F.normalize(pooled, dim=1), self.class_features * length * roots], 1
        )

    def has_names_of(self, weights: dict[str, Tensor]) -> bool:
        """Return whether a state dict is that of a `FeatureNet`."""
        return any(name.startswith("body.") for name in weights)

    def renamed(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return those weights of an uncut network that this one has, with the names used here.

        Args:
            weights: the state dict of a network like `body` before it was cut.
        """
        own = self.state_dict()
        return {f"body.{name}": w for name, w in weights.items() if f"body.{name}" in own}
