"""Check that files, folders and packages exist that a config needs, before importing torch."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from src.config.checks import takes
from src.config.saved import expect_classifier
from src.config.signatures import class_attribute
from src.config.targets import marked
from src.core import packages, runs
from src.core.errors import UserError
from src.core.types import INPUT


def expect_data(settings: Mapping[Any, Any]) -> None:
    """Raise UserError if the data set of `settings`, a node `data`, reads a path that is missing.

    A set that can be downloaded makes its folder.
    """
    names = marked(str(settings["_target_"]), INPUT)
    if settings.get("download") is False and "root" in settings:
        names.append("root")
    for name in names:
        if settings.get(name) is not None:
            expect_path(f"data.{name}", settings[name])


def expect_path(setting: str, path: str) -> None:
    """Raise UserError if the file or folder that `setting` names does not exist."""
    try:
        os.stat(os.path.expanduser(path))  # noqa: PTH111, PTH116 (Path's raises for unknown users)
    except OSError as error:
        raise UserError(f"{setting}={path} cannot be read: {error.strerror}") from error


def expect_pretrained(cfg: DictConfig) -> None:
    """Raise UserError if the run or checkpoint that a model starts from does not exist."""
    source = cfg.model.get("init_from")
    if source in (None, "pretrained"):
        return
    path = Path(str(source)).expanduser()
    if takes(cfg) == "sentences":
        runs.last_checkpoint(path)
    else:
        runs.checkpoint_at(path, "model.init_from")
        if path.is_dir():
            expect_classifier(path, "model.init_from")


def expect_packages(cfg: DictConfig) -> None:
    """Raise UserError if a logger or callback needs a package that is not installed.

    The attribute `package` of its class names the package, and the extra that installs it. The
    attribute `needs` maps a setting to the extra and the package that it needs if it is on.
    """
    nodes = {
        f"{group}.{name}": node
        for group in ("logger", "callbacks")
        for name, node in (cfg.get(group) or {}).items()
    }
    for path, node in nodes.items():
        target = str(node.get("_target_"))
        if package := class_attribute(target, "package"):
            packages.require(path, package)
        for setting, (extra, package) in (class_attribute(target, "needs") or {}).items():
            if node.get(setting):
                packages.require(f"{path}.{setting}", extra, package)
