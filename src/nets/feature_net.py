"""A small classifier on the features of a network of timm: cut early, or seen at several sizes."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.core.types import AnyLength, ImageSize, NonNegative, NonNegativeInt, height_width


@dataclass(frozen=True)
class FeatureSettings:
    """The features of a network that a new head learns from.

    Args:
        cut: the level of feature maps that is pooled, counted as timm's `features_only` does: 0 is
            the first. Later layers are removed. None: the last maps, as the network pools them.
        pool: `max`: take the maximum of each map instead of its average.
        sizes: the features are averaged over the image and its copies of these sizes.
        class_weight: weight of the network's own classes. Above 0, the features are divided by
            their root mean square, and the square roots of the class probabilities are appended.
            These have, for a weight of 1, the same length as the features.
    """

    cut: NonNegativeInt | None = None
    pool: Literal["avg", "max"] = "avg"
    sizes: AnyLength[ImageSize] = ()
    class_weight: NonNegative = 0.0

    @property
    def are_usual(self) -> bool:
        """Whether they are the inputs of the network's own last layer."""
        return self.cut is None and self.pool == "avg" and not self.sizes and not self.class_weight


USUAL = FeatureSettings()


class FeatureNet(nn.Module):
    """A network of timm without its last layer, and a new head on its pooled features.

    Args:
        body: a new network of timm.
        num_classes: number of logits.
        size: height and width of the images.
        features: what the head learns from.
        hidden: units of a hidden layer with ReLU in the head; None: there is no hidden layer.
        dropout: fraction of the features that is dropped before the head.

    Attributes:
        head: features (B, D) -> logits (B, num_classes).

    Raises:
        ValueError: `body` cannot be cut at this level; it has no classes; or its last layers have
            no maps to take the maximum of.
    """

    def __init__(
        self,
        body: Any,
        num_classes: int,
        size: tuple[int, int],
        features: FeatureSettings = USUAL,
        hidden: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.cut, self.pool = features.cut, features.pool
        self.class_weight = features.class_weight
        self.sizes = [height_width(other) for other in features.sizes]
        if self.class_weight and self.cut is not None:
            raise ValueError(f"class_weight needs all layers: with cut={self.cut} it must be 0")
        if self.class_weight and not body.num_classes:
            raise ValueError(f"class_weight: the weights of {type(body).__name__} have no classes")
        is_nchw = getattr(body, "output_fmt", "NCHW") == "NCHW"
        self.has_maps = self.cut is not None or is_nchw
        self.body = body
        self.pretrained_cfg = {**body.pretrained_cfg, "classifier": "head"}
        if self.cut is not None:
            self._remove_layers_after(self.cut)
        elif not self.class_weight:
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
        if self.pool == "max" and not (self.has_maps and maps.ndim == 4):
            raise ValueError(f"pool=max: {type(self.body).__name__} of timm has no maps")
        averaged = self.body.forward_head(maps, pre_logits=True)
        pooled = maps.amax((2, 3)) if self.pool == "max" else averaged
        if not self.class_weight:
            return pooled
        # Square roots of probabilities are a vector of length 1 (Hellinger distance).
        roots = self.body.get_classifier()(averaged).float().softmax(1).sqrt()
        length = pooled.shape[1] ** 0.5
        return torch.cat(
            [length * F.normalize(pooled, dim=1), self.class_weight * length * roots], 1
        )

    def has_names_of(self, weights: dict[str, Tensor]) -> bool:
        """Return whether a state dict is that of a `FeatureNet`."""
        return any(name.startswith("body.") for name in weights)

    def renamed(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return those weights of a whole network that this one has, with the names used here.

        Args:
            weights: the state dict of a network like `body` before it was cut.
        """
        own = self.state_dict()
        return {f"body.{name}": w for name, w in weights.items() if f"body.{name}" in own}
