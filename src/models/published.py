"""Read published ImageNet weights: those of torchvision, of timm, or of an installed package."""

import contextlib
import io
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from src.core.errors import UserError

log = logging.getLogger(__name__)

SETTING = "model.init_from"  # for errors


class Source(NamedTuple):
    """A classifier's network that was trained elsewhere.

    Attributes:
        weights: its state dict.
        mean, std: moments of its training images in [0, 1], (C or 1, 1, 1).
        class_names: the name of each logit; empty if unknown.
        permutation: the order of its images' pixels, (H * W,); None for the natural one.
        preprocessing: `size`, `crop` and `interpolation` of its images, as in `ImageData`; None if
            unknown.
    """

    weights: dict[str, Tensor]
    mean: Tensor
    std: Tensor
    class_names: list[str]
    permutation: Tensor | None = None
    preprocessing: dict[str, Any] | None = None

    def preprocessing_advice(self, data: Any) -> str:
        """Return '; they were trained with SETTINGS' if those of `data` differ, or ''.

        Args:
            data: an `ImageData`.
        """
        trained = self.preprocessing or {}
        other = {key: value for key, value in trained.items() if value != getattr(data, key, value)}
        settings = " ".join(f"data.{key}={_shown(value)}" for key, value in other.items())
        return settings and f"; they were trained with {settings}"


def published_source(net: nn.Module, architecture: str) -> Source:
    """Read the pretrained weights of `net`; missing files are downloaded by its library.

    Args:
        net: a network of timm or torchvision.
        architecture: the name of torchvision's function that builds it.
    """
    card: dict[str, Any] | None = getattr(net, "pretrained_cfg", None)
    if card is None:
        return torchvision_source(net, architecture)
    weights = packaged_weights(net, card["file"]) if card.get("file") else timm_weights(net, card)
    preprocessing = {
        "size": tuple(card["input_size"][1:]),
        "crop": card["crop_pct"],
        "interpolation": card["interpolation"],
    }
    return Source(
        weights,
        _moment(card["mean"]),
        _moment(card["std"]),
        imagenet_ids(card),
        preprocessing=preprocessing,
    )


def packaged_weights(net: Any, file: str) -> dict[str, Tensor]:
    """Read the state dict in `file`, whose tensors are timm's in order, by other names.

    Args:
        net: a result of `src.nets.timm_net.efficientnet_lite0`.
    """
    import timm

    with torch.device("meta"):
        names = list(timm.create_model(**net.timm_settings).state_dict())
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        return dict(zip(names, state.values(), strict=True))
    except Exception as error:  # pickle, zipfile and torch can raise any exception type
        raise UserError(
            f"{SETTING}=pretrained: {file} is missing or damaged: install its package again "
            f"({_reason(error)})"
        ) from error


def timm_weights(net: Any, card: dict[str, Any]) -> dict[str, Tensor]:
    """Read timm's weights; a missing file is downloaded into the cache of huggingface_hub.

    Args:
        net: a result of `src.nets.timm_net.timm_net`.
        card: its `pretrained_cfg`.
    """
    import timm

    name = net.timm_settings["model_name"]
    if not (card.get("url") or card.get("hf_hub_id")):
        tagged = timm.list_pretrained(filter=f"{name}.*")
        known = f"; there are for {', '.join(tagged)}" if tagged else ""
        raise UserError(f"{SETTING}=pretrained: timm has no weights for {name}{known}")
    log.info("reading timm's weights of %s; a missing file is downloaded", name)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns of each new attempt
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return timm.create_model(**net.timm_settings, pretrained=True).state_dict()
    except Exception as error:  # huggingface_hub, its HTTP library and torch can raise any type
        raise UserError(
            f"{SETTING}=pretrained: the weights of {name} are not on this machine and cannot be "
            f"downloaded ({_reason(error)})"
        ) from error


def imagenet_ids(card: dict[str, Any]) -> list[str]:
    """Return ImageNet's name of each class, n01440764 for the first; empty for other classes."""
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(card)
    return ImageNetInfo(subset).label_names() if subset else []


def torchvision_source(net: nn.Module, architecture: str) -> Source:
    """Read torchvision's ImageNet weights; a missing file is downloaded into torch.hub's folder."""
    import torchvision  # slow to import

    weights = torchvision.models.get_model_weights(architecture).DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            state = weights.get_state_dict(
                progress=sys.stderr.isatty(), check_hash=True, weights_only=True, map_location="cpu"
            )
    except Exception as error:  # urllib, http, ssl, pickle and torch can raise any exception type
        todo = (
            f"is damaged: delete it ({_reason(error)})"
            if file.exists()
            else f"does not exist and cannot be downloaded ({_reason(error)})"
        )
        raise UserError(f"{SETTING}=pretrained: {file}, from {weights.url}, {todo}") from error
    # DenseNet's files are from a time when a module's name could contain a dot
    state = {
        re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", key): value
        for key, value in state.items()
    }
    preset = weights.transforms()
    # GoogLeNet was trained on images in [-1, 1]; its switch that converts others is off here
    mean, std = ([0.5], [0.5]) if hasattr(net, "transform_input") else (preset.mean, preset.std)
    preprocessing = {
        "size": (preset.crop_size[0],) * 2,
        "crop": round(preset.crop_size[0] / preset.resize_size[0], 3),
        "interpolation": preset.interpolation.value,
    }
    return Source(
        state,
        _moment(mean),
        _moment(std),
        weights.meta["categories"],
        preprocessing=preprocessing,
    )


def _moment(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)


def _shown(value: Any) -> str:
    height, width = value if isinstance(value, tuple) else (value, value)
    return f"{height}" if height == width else f"[{height},{width}]"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
