"""Check that data and model fit together, after reading the files and building the network."""

from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from src.config.signatures import class_attribute
from src.core import slurm
from src.core.counts import count
from src.core.errors import UserError
from src.core.tree import leaves
from src.core.types import height_width
from src.engine.instantiate import root_cause
from src.models.normalize import in_channels


def expect_test_set(datamodule: Any, processes: int = 1) -> None:
    """Raise UserError if `datamodule` has no images to test on, or fewer than processes.

    Sentences without labels are tested on nothing, which is no error. Style transfer, with one
    image, refuses several processes itself.
    """
    n, is_split = len(datamodule.test), hasattr(datamodule, "test_size")
    if n >= processes or not (is_split or (n and datamodule.holds == "sentences")):
        return
    images = count(n, "image" if is_split else "sentence") if n else "nothing"
    source = f"data.test_size={datamodule.test_size} leaves" if is_split else "the test set has"
    few = f", fewer than the {processes} processes" if n else ""
    raise UserError(f"{source} {images} to test on{few}; to train without a test: test=false")


def expect_processes(trainer: pl.Trainer) -> None:
    """Raise UserError if Slurm has started fewer or more processes than the trainer needs."""
    wanted, found = trainer.num_devices * trainer.num_nodes, max(slurm.tasks(), trainer.world_size)
    if found != wanted:
        raise UserError(
            f"trainer.devices={trainer.num_devices} needs {count(wanted, 'process')}, but "
            f"Slurm has started {found}: use srun --ntasks-per-node={trainer.num_devices}, or "
            f"trainer=ddp trainer.devices={found}"
        )


def expect_labels(cfg: DictConfig, datamodule: Any) -> None:
    """Raise UserError if the model needs labels and the data have none, or too few classes."""
    if "num_classes" not in (cfg.get("model") or {}):
        return
    classes, name = datamodule.num_classes, cfg.data.name
    if not classes or not datamodule.labeled:
        raise UserError(f"{cfg.model._target_} needs labels, but data={name} has none")
    if classes == 1 and class_attribute(str(cfg.model._target_), "is_classifier"):
        raise UserError(
            f"a classifier needs at least two classes, but data={name} has only one: "
            f"{datamodule.class_names[0]}"
        )
    parts = (datamodule.train, datamodule.val, datamodule.test)
    highest = max(int(part.labels.max()) for part in parts if len(part))
    if highest >= classes:
        raise UserError(
            f"data.num_classes={classes} does not fit data={name}, which has labels up to {highest}"
        )


def expect_counts(cfg: DictConfig, settings: dict[str, Any], counts: dict[str, int]) -> None:
    """Raise UserError if a model setting contradicts a number that was counted in the data.

    Args:
        settings: the model's settings, as plain values.
        counts: the numbers by the setting's name, `num_classes` for example.
    """
    counts = {name: number for name, number in counts.items() if name in settings}
    # the settings of the model itself first: those of its networks refer to them
    for path, value in sorted(leaves(settings, "model"), key=lambda leaf: leaf[0].count(".")):
        number = counts.get(path.rpartition(".")[2], value)
        if value != number:
            raise UserError(f"{path}={value} does not fit data={cfg.data.name}, which has {number}")


def expect_input_size(cfg: DictConfig, net: dict[str, Any]) -> None:
    """Raise UserError with the smallest size that works if `net` cannot take data.size.

    Args:
        net: the settings of a classifier's network, as plain values.
    """
    why = why_input_size_fails(cfg, net, cfg.data.size)
    if why is None:
        alone = cfg.data.batch_size == 1
        if alone and (why := why_input_size_fails(cfg, net, cfg.data.size, alone=True)):
            raise UserError(f"data.batch_size=1 does not fit {net['_target_']}: {why}")
        return
    low, high = 0, 1024  # `low` fails; the smallest size that works is at most `high`
    while high - low > 1:
        middle = (low + high) // 2
        works = why_input_size_fails(cfg, net, middle) is None
        low, high = (low, middle) if works else (middle, high)
    if why_input_size_fails(cfg, net, high) is not None:  # the size is not at fault
        raise UserError(f"model.net: {why}")
    raise UserError(
        f"data.size={cfg.data.size} does not fit {net['_target_']}: "
        f"the smallest that works is data.size={high} ({why})"
    )


def why_input_size_fails(
    cfg: DictConfig, net: dict[str, Any], size: Any, alone: bool = False
) -> str | None:
    """Return why `net` cannot take images of `size`, or None if it can.

    The network runs on the meta device, which needs no memory and computes nothing.

    Args:
        net: the settings of a classifier's network, as plain values.
        size: side in pixels, or [height, width].
        alone: try to train on a batch of one image, which BatchNorm may reject.
    """
    settings = net | ({"size": size} if "size" in net else {})
    height, width = height_width(size)
    try:
        with torch.device("meta"), torch.no_grad():
            built = instantiate(settings, _convert_="all").train(alone)
            channels = in_channels(built, cfg.data.channels)
            built(torch.zeros(1 if alone else 2, channels, height, width))
    except Exception as error:  # networks and layers can raise any exception type
        return root_cause(error)
    return None
