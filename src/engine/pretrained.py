"""Start a model from what was learned elsewhere: by a run of this project, or by torchvision's pretrained nets."""

import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from omegaconf import DictConfig
from torch import Tensor, nn

from src.core import runs
from src.core.errors import UserError
from src.data.sets.reviews import expect_same_words
from src.data.transforms.pixels import same_order
from src.models.classifier import Classifier
from src.models.sentiment import Sentiment
from src.models.style_transfer import StyleTransfer
from src.nets.inspect import classifier_heads

MOST_NAMED = 3  # of the weights that do not fit


class Source(NamedTuple):
    """What was learned elsewhere.

    Attributes:
        weights: a net's state, by its own names.
        mean, std: of the images that it was trained with, in [0, 1], (C or 1, 1, 1).
        class_names: one a logit.
        permutation: the order that the images' pixels stood in, (H * W,), None for their own.
    """

    weights: dict[str, Tensor]
    mean: Tensor
    std: Tensor
    class_names: list[str]
    permutation: Tensor | None = None


def begin(model: Any, node: DictConfig, data: Any) -> str:
    """Bring what model.init_from names into `model`, made by the config `node`, for `data`; returns a line that says so."""
    if isinstance(model, Sentiment):
        return transfer_words(model, data.words)
    if isinstance(model, StyleTransfer):
        return transfer_features(model)
    return transfer(model, node.net._target_, data.class_names, data.permutation)


def transfer(
    model: Classifier, builder: str, class_names: list[str], permutation: Tensor | None = None
) -> str:
    """Bring what model.init_from names into `model`, which is to tell `class_names` apart; returns a line that says so.

    Its head comes along where it was trained on the same classes in the same order, else it stays as it was drawn. Mean and std
    come along where the config leaves them open.

    Args:
        builder: the function that made its net, as the config names it.
        permutation: the order of its images' pixels, None for their own.

    Raises UserError where any other weight is missing, surplus or of another shape, or the pixels stood in another order.
    """
    where = str(model.init_from)
    if where == "torchvision":
        source = pretrained(model.net, builder.rpartition(".")[2])
    else:
        source = of_checkpoint(runs.checkpoint_at(Path(where).expanduser()))
    if not same_order(permutation, source.permutation):
        raise UserError(
            f"model.init_from={where}: its images' pixels stood in another order (data.permute, data.size)"
        )
    new = [] if source.class_names == class_names else classifier_heads(model.net)
    theirs, ours = (
        {name: value for name, value in state.items() if name.rpartition(".")[0] not in new}
        for state in (source.weights, model.net.state_dict())
    )
    if wrong := misfits(theirs, ours):
        raise UserError(f"model.init_from={where} does not fit the net: {wrong}")
    model.net.load_state_dict(theirs, strict=False)
    if model.average is not None:
        model.average.module.load_state_dict(model.net.state_dict())
    for name in model.open:
        buffer: Tensor = getattr(model, name)
        buffer.copy_(getattr(source, name))
    return f"weights from {where}, " + (
        f"but {', '.join(new)}: new for {len(class_names)} classes" if new else "head included"
    )


def transfer_features(model: StyleTransfer) -> str:
    """Bring the convolutions that model.init_from names into `model`, with their mean and std; returns a line that says so.

    Those of torchvision's VGGs are named by their place in the row, as `features.0.weight`.

    Raises UserError where one of its weights is missing or of another shape; what lies behind them stays where it is.
    """
    where, ours = str(model.init_from), model.net.state_dict()
    if where == "torchvision":
        try:
            source = pretrained(model.net, "vgg19")
        except UserError as error:
            raise UserError(
                f"{error}; or model=style_transfer_own model.init_from=RUN, the run of a model=vgg"
            ) from error
    else:
        source = of_checkpoint(runs.checkpoint_at(Path(where).expanduser()))
    by_place = [value for name, value in source.weights.items() if name.startswith("features.")]
    theirs = dict(zip(ours, by_place, strict=False)) or {
        name: value for name, value in source.weights.items() if name in ours
    }
    if wrong := misfits(theirs, ours):
        raise UserError(
            f"model.init_from={where} does not fit the net, which is that of a model=vgg: {wrong}"
        )
    model.net.load_state_dict(theirs)
    for name in ("mean", "std"):
        getattr(model, name).copy_(getattr(source, name))
    return f"{sum(isinstance(layer, nn.Conv2d) for layer in model.net.children())} convolutions from {where}"


def misfits(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> str:
    """What of `theirs` cannot become `ours`, by name; empty where all can."""
    found = {  # BatchNorm's count of batches is in no file older than torch 0.4.1
        "missing": [
            name for name in ours if name not in theirs and not name.endswith("num_batches_tracked")
        ],
        "surplus": [name for name in theirs if name not in ours],
        "of another shape": [
            f"{name} {list(theirs[name].shape)} for {list(ours[name].shape)}"
            for name in ours
            if name in theirs and theirs[name].shape != ours[name].shape
        ],
    }
    return "; ".join(
        f"{len(names)} {what} ({', '.join(names[:MOST_NAMED])}{', ...' if len(names) > MOST_NAMED else ''})"
        for what, names in found.items()
        if names
    )


def of_checkpoint(path: Path) -> Source:
    """The classifier in the checkpoint at `path`: its moving average where there is one, since that is what was measured."""
    checkpoint = runs.load_checkpoint(path)
    known = checkpoint if isinstance(checkpoint, dict) else {}
    state = known.get("state_dict", {})
    state = state if isinstance(state, dict) else {}
    of_data = [
        part
        for part in known.values()
        if isinstance(part, dict) and {"class_names", "permutation"} <= part.keys()
    ]
    prefix = (
        "average.module." if any(name.startswith("average.module.") for name in state) else "net."
    )
    weights = {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
    if not (weights and of_data and {"mean", "std"} <= state.keys()):
        raise UserError(f"model.init_from={path} is no checkpoint of a Classifier")
    return Source(
        weights, state["mean"], state["std"], of_data[0]["class_names"], of_data[0]["permutation"]
    )


def pretrained(net: nn.Module, name: str) -> Source:
    """What torchvision's net `name` learned on ImageNet, downloaded into torch.hub's folder where it is not there."""
    weights = torchvision.models.get_model_weights(name).DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            state = weights.get_state_dict(
                progress=sys.stderr.isatty(), check_hash=True, weights_only=True, map_location="cpu"
            )
    except Exception as error:  # urllib, http, ssl, pickle and torch each raise their own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        todo = (
            f"is broken: delete it ({reason})"
            if file.exists()
            else f"is not there and cannot be fetched ({reason})"
        )
        raise UserError(
            f"model.init_from=torchvision: {file}, from {weights.url}, {todo}"
        ) from error
    # DenseNets were saved when names might hold more dots
    state = {
        re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", key): value
        for key, value in state.items()
    }
    preset = weights.transforms()
    # GoogLeNet learned on images in [-1, 1], and has a switch, off here, that brings the others' scaling back to it
    mean, std = ([0.5], [0.5]) if hasattr(net, "transform_input") else (preset.mean, preset.std)
    return Source(
        state,
        torch.tensor(mean).view(-1, 1, 1),
        torch.tensor(std).view(-1, 1, 1),
        weights.meta["categories"],
    )


def transfer_words(model: Sentiment, words: list[str]) -> str:
    """Bring the vectors of the run model.init_from into `model`; returns a line that says so.

    Raises UserError where that is no run of model=word_vectors, or its vectors are not of these `words` or of another width.
    """
    folder = Path(str(model.init_from)).expanduser()
    family = runs.load_config(folder).model._target_.rpartition(".")[2]
    if family != "WordVectors":
        raise UserError(
            f"model.init_from={folder} holds a {family}: it takes the run of model=word_vectors"
        )
    path, checkpoint = runs.last_checkpoint(folder), runs.load_last(folder)
    theirs, ours = checkpoint["state_dict"].get("centre.weight"), model.vectors.weight
    if not isinstance(theirs, Tensor) or "words" not in checkpoint.get("Reviews", {}):
        raise UserError(f"model.init_from={folder}: {path} holds no word vectors")
    expect_same_words(
        checkpoint["Reviews"]["words"], words, f"model.init_from={folder} learned", "the data have"
    )
    if theirs.shape != ours.shape:
        raise UserError(
            f"model.embedding_dim={ours.shape[1]} does not fit model.init_from={folder}, whose vectors have {theirs.shape[1]}"
        )
    with torch.no_grad():
        ours[1:] = theirs[1:]  # 0 is no word
    return f"vectors of {len(words)} words from {folder}"
