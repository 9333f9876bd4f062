"""Read weights that were learned elsewhere: in a run of this project, or by torchvision."""

import contextlib
import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torchvision
from torch import Tensor, nn

from src.core import runs
from src.core.errors import UserError
from src.core.types import Positive, PositiveInt

SETTING = "model.init_from"  # for errors
MAX_NAMES = 3  # of the weights that do not fit, in an error


@dataclass(frozen=True)
class Transfer:
    """How to train a classifier that starts from the weights of another run (`init_from`).

    Args:
        architecture: the function that builds the network; it says which of torchvision's weights
            fit.
        freeze: what is not trained, its BatchNorm statistics fixed and its dropout off: `none`,
            `backbone` (all but the heads), or that many layers from the first one on (see
            `src.nets.inspect.frozen_parts`).
        unfreeze_epoch: number of epochs after which the frozen part is trained too. None: never.
        backbone_lr: factor on the learning rate of all layers but the heads.
    """

    architecture: str = ""
    freeze: Literal["none", "backbone"] | PositiveInt = "none"
    unfreeze_epoch: PositiveInt | None = None
    backbone_lr: Positive = 0.1


class Source(NamedTuple):
    """A classifier's network that was trained elsewhere.

    Attributes:
        weights: its state dict.
        mean, std: moments of its training images in [0, 1], (C or 1, 1, 1).
        class_names: the name of each logit.
        permutation: the order of its images' pixels, (H * W,); None for the natural one.
    """

    weights: dict[str, Tensor]
    mean: Tensor
    std: Tensor
    class_names: list[str]
    permutation: Tensor | None = None


def read_source(init_from: str, net: nn.Module, architecture: str) -> Source:
    """Read the classifier that `init_from` names.

    Args:
        init_from: `torchvision`, the folder of a run, or a checkpoint.
        net: that the weights are for.
        architecture: the name of torchvision's function that builds it.
    """
    if init_from == "torchvision":
        return torchvision_source(net, architecture)
    return checkpoint_source(runs.checkpoint_at(Path(init_from).expanduser(), SETTING))


def checkpoint_source(path: Path) -> Source:
    """Read the classifier in the checkpoint at `path`: the moving average if there is one."""
    checkpoint = runs.load_checkpoint(path)
    parts = checkpoint if isinstance(checkpoint, dict) else {}
    state = parts.get("state_dict", {})
    state = state if isinstance(state, dict) else {}
    data_states = [
        part
        for part in parts.values()
        if isinstance(part, dict) and {"class_names", "permutation"} <= part.keys()
    ]
    is_averaged = any(name.startswith("average.module.") for name in state)
    prefix = "average.module." if is_averaged else "net."
    weights = {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
    if not (weights and data_states and {"mean", "std"} <= state.keys()):
        raise UserError(f"{SETTING}={path} is not the checkpoint of a Classifier")
    data = data_states[0]
    return Source(weights, state["mean"], state["std"], data["class_names"], data["permutation"])


def torchvision_source(net: nn.Module, architecture: str) -> Source:
    """Read torchvision's ImageNet weights; a missing file is downloaded into torch.hub's folder."""
    weights = torchvision.models.get_model_weights(architecture).DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            state = weights.get_state_dict(
                progress=sys.stderr.isatty(), check_hash=True, weights_only=True, map_location="cpu"
            )
    except Exception as error:  # urllib, http, ssl, pickle and torch can raise any exception type
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        todo = (
            f"is damaged: delete it ({reason})"
            if file.exists()
            else f"does not exist and cannot be downloaded ({reason})"
        )
        raise UserError(f"{SETTING}=torchvision: {file}, from {weights.url}, {todo}") from error
    # DenseNet's files are from a time when a module's name could contain a dot
    state = {
        re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", key): value
        for key, value in state.items()
    }
    preset = weights.transforms()
    # GoogLeNet was trained on images in [-1, 1]; its switch that converts others is off here
    mean, std = ([0.5], [0.5]) if hasattr(net, "transform_input") else (preset.mean, preset.std)
    return Source(
        state,
        torch.tensor(mean).view(-1, 1, 1),
        torch.tensor(std).view(-1, 1, 1),
        weights.meta["categories"],
    )


def mismatch(source: dict[str, Tensor], target: dict[str, Tensor]) -> str:
    """Return why the state dict `source` does not fit `target`; empty if it does."""
    found = {  # files older than torch 0.4.1 have no num_batches_tracked
        "missing": [
            name
            for name in target
            if name not in source and not name.endswith("num_batches_tracked")
        ],
        "unexpected": [name for name in source if name not in target],
        "of another shape": [
            f"{name} {list(source[name].shape)} for {list(target[name].shape)}"
            for name in target
            if name in source and source[name].shape != target[name].shape
        ],
    }
    return "; ".join(
        f"{len(names)} {what} ({', '.join(names[:MAX_NAMES])}"
        f"{', ...' if len(names) > MAX_NAMES else ''})"
        for what, names in found.items()
        if names
    )
