"""Read weights that were learned elsewhere: in a run of this project, or published ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from src.core import runs
from src.core.errors import UserError
from src.core.types import Positive, PositiveInt
from src.models.published import SETTING, Source, published_source
from src.nets.feature_net import FeatureNet

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
        backbone_lr: factor on the learning rate of all layers but the heads; no effect without
            `init_from`.
    """

    architecture: str = ""
    freeze: Literal["none", "backbone"] | PositiveInt = "none"
    unfreeze_epoch: PositiveInt | None = None
    backbone_lr: Positive = 0.1


def read_source(init_from: str, net: nn.Module, architecture: str) -> Source:
    """Read the classifier that `init_from` names; for a `FeatureNet`, the part that it keeps.

    Weights of a part that `net` was built without are left out: GoogLeNet's auxiliary heads.

    Args:
        init_from: `pretrained` for published weights, the folder of a run, or a checkpoint.
        net: that the weights are for.
        architecture: the name of torchvision's function that builds it.
    """
    if init_from == "pretrained":
        source = published_source(net, architecture)
    else:
        source = checkpoint_source(runs.checkpoint_at(Path(init_from).expanduser(), SETTING))
    weights = {
        name: value
        for name, value in source.weights.items()
        if getattr(net, name.partition(".")[0], net) is not None
    }
    source = source._replace(weights=weights)
    if isinstance(net, FeatureNet) and not net.has_names_of(source.weights):
        return source._replace(weights=net.renamed(source.weights), class_names=[])
    return source


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
