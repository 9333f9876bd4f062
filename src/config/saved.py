"""Check the config of a finished run before torch is imported."""

from pathlib import Path

from omegaconf import DictConfig

from src.config.checks import check
from src.config.compose import check_keys, complete, settings_of
from src.config.signatures import class_attribute
from src.core import runs
from src.core.errors import UserError


def check_saved(cfg: DictConfig, path: Path) -> None:
    """Check the config that a run stores in the file `path`; an error names the file."""
    try:
        complete(cfg)
        check_keys(cfg, settings_of("train"))
        check(cfg)
    except UserError as error:
        raise UserError(
            f"{path}: {error}; was the file changed, or written by another version of the project?"
        ) from error


def expect_classifier(folder: Path, setting: str = "run") -> None:
    """Raise UserError, naming `setting`, unless the run in `folder` trained a classifier."""
    target = runs.load_config(folder).model._target_
    if not class_attribute(target, "is_classifier"):
        name = target.rpartition(".")[2]
        raise UserError(f"{setting}={folder} holds a {name}; give the run of a classifier")


def expect_images(folder: Path) -> None:
    """Raise UserError if the run in `folder` trained a model of sentences."""
    target = runs.load_config(folder).model._target_
    if class_attribute(target, "takes") == "sentences":
        name = target.rpartition(".")[2]
        raise UserError(f"run={folder} holds a {name}; give the run of a model of images")
