"""Every choice in conf/, discovered, and made small enough for a test."""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from src.config.checks import check
from src.config.compose import CONF, compose, groups
from src.config.signatures import class_attribute

MODELS, LOSSES, DATA = (groups()[group] for group in ("model", "model/loss", "data"))

SMALL = {  # the value of every setting of this name in a model
    "hidden_dims": "[8]",
    "base_channels": "4",
    "num_steps": "3",
    "latent_dim": "4",
    "encoder_dim": "8",
    "decoder_dim": "8",
    "hidden_dim": "8",
    "max_iter": "2",
    "widths": "[8,8,8]",
}
ACCELERATOR = os.environ.get("ACCELERATOR", "cpu")
RUN = (  # two epochs of two batches, with all pictures
    f"trainer.accelerator={ACCELERATOR}",
    "trainer.precision=32-true",
    *([] if ACCELERATOR == "cpu" else ["trainer.deterministic=warn"]),
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    "checkpoint.every_n_batches=null",
    "logger=csv",
    "callbacks=default",
    "~callbacks.quality",
    "callbacks.explanations.n_classes=0",
)
IMAGES = ("data=digits", "data.limit=12", "data.batch_size=6", "data.val_size=6")
STAND_INS = {  # what a model `takes` -> a small data set of that kind; INPUTS: the fixture's
    "images": IMAGES,
    "two domains of images": (
        "data=winter",
        "data.root=INPUTS/photos",
        "data.size=16",
        "data.batch_size=4",
        "data.val_size=2",
        "data.test_size=2",
    ),
    "a photograph and a style": (
        "data=style_pair",
        "data.content=INPUTS/photo.png",
        "data.style=INPUTS/style.png",
        "data.size=16",
        "data.num_steps=2",
    ),
    "sentences": ("data=reviews", "data.batch_size=64"),
}
MODEL_SETTINGS = {  # Family.takes -> more settings for such a model
    "a photograph and a style": (
        "model.init_from=INPUTS/vgg",
        "model.net.features=[4,M,8]",
        "model.content_layers=[relu2]",
        "model.style_layers=[relu1,relu2]",
    ),
}


@cache
def _composed(model: str) -> DictConfig:
    return compose("train", [f"model={model}"]).model


def class_of(model: str) -> str:
    """Return the dotted name of the class of a choice of model=."""
    return str(_composed(model)._target_)


def uses_torchvision(model: str) -> bool:
    """Return whether its network, or the weights that it starts from, are torchvision's."""
    text = OmegaConf.to_yaml(_composed(model))
    return "torchvision" in text or "init_from: pretrained" in text


@cache
def fast_models() -> set[str]:
    """Return the first choice of each class that needs no torchvision: the models of the fast
    tests."""
    first: dict[str, str] = {}
    for model in MODELS:
        if not uses_torchvision(model):
            first.setdefault(class_of(model), model)
    return set(first.values())


def data_class_of(data: str) -> str:
    """Return the dotted name of the class of a choice of data=.

    Its file names it, or a file of its defaults.
    """
    node = OmegaConf.load(CONF / "data" / f"{data}.yaml")
    settings = node.get("data", node)  # below `data` if the file sets other groups too
    if "_target_" in settings:
        return str(settings._target_)
    parents = [str(name) for name in node.defaults if isinstance(name, str)]
    return next(data_class_of(name) for name in parents if not name.startswith("_"))


def overrides(model: str, inputs: Path, data: Sequence[str] | None = None) -> list[str]:
    """Return the command line of a small run of `model`.

    Args:
        model: a choice of model=.
        inputs: the fixture's folder.
        data: overrides of a data set; None: the stand-in for the kind that the model takes.
    """
    kind = class_attribute(class_of(model), "takes")
    chosen = list(STAND_INS[kind] if data is None else data)
    if kind == "images" and data is None:
        # networks that take no size pool at their end; some pool too often for 32 pixels
        needs_size = "${data.size}" in OmegaConf.to_yaml(_composed(model))
        chosen.append("data.size=32" if needs_size else "data.size=64")
    chosen += MODEL_SETTINGS.get(kind, ())
    small = []
    for path, value in _leaves(_composed(model), "model"):
        name = path.rpartition(".")[2]
        if name in SMALL and "${" not in str(value):
            small.append(f"{path}={SMALL[name]}")
    words = [word.replace("INPUTS", str(inputs)) for word in chosen]
    return [f"model={model}", *RUN, *words, *small]


def small_run(*given: str) -> DictConfig:
    """Return a checked config."""
    cfg = compose("train", list(given))
    check(cfg)
    return cfg


def _leaves(node: DictConfig, path: str) -> list[tuple[str, object]]:
    plain = OmegaConf.to_container(node, resolve=False)
    found: list[tuple[str, object]] = []

    def visit(value: object, name: str) -> None:
        if isinstance(value, dict):
            for key, child in value.items():
                visit(child, f"{name}.{key}")
        else:
            found.append((name, value))

    visit(plain, path)
    return found
