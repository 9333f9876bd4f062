"""The best job of a sweep as a recipe: best.yaml, an experiment."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from src.config.compose import is_group, parse
from src.config.overrides import unquoted
from src.core.files import utf8, write_atomically

NOT_OF_A_RECIPE = ("out", "resume", "name", "tags", "note", "seed", "objective")


def command(config_name: str, overrides: Sequence[str]) -> str:
    """Return the command that runs one job of a sweep alone."""
    return shlex.join(["python", "-m", f"src.{config_name}", *map(unquoted, overrides)])


def without(overrides: Sequence[str], *keys: str) -> list[str]:
    """Return `overrides` without those of `keys`."""
    return [o for o in overrides if o.lstrip("+~").partition("=")[0] not in keys]


def write_recipe(overrides: Sequence[str], comment: Sequence[str], path: Path) -> None:
    """Write the settings of a job as an experiment.

    Args:
        overrides: those of the job.
        comment: lines for the top of the file.
        path: the file; it works as `experiment=PATH`, and below conf/experiment by its name.
    """
    defaults: list[Any] = []
    settings = OmegaConf.create({})
    left_out = []
    for o in parse(list(overrides)):
        key = o.key_or_group
        if key.partition(".")[0] in NOT_OF_A_RECIPE:
            continue
        if o.is_delete():
            left_out.append(str(o.input_line))
        elif key == "experiment":
            defaults.insert(0, o.value())
        elif is_group(key):
            defaults.append({f"override /{key}": o.value()})
        else:
            OmegaConf.update(settings, key, o.value(), force_add=True)
    if left_out:
        comment = [*comment, f"Add to the command: {' '.join(left_out)}"]
    parts = ["# @package _global_", *(f"# {line}" for line in comment)]
    if defaults:
        parts.append(OmegaConf.to_yaml(OmegaConf.create({"defaults": [*defaults, "_self_"]})))
    if settings:
        parts.append(OmegaConf.to_yaml(settings))
    text = "\n".join(parts).rstrip() + "\n"
    write_atomically(path, lambda to: to.write_bytes(utf8(text)))
