"""What a run leaves behind, and opening it again: its folder, its config, its checkpoints, metrics.json."""

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.errors import UserError
from src.files import Broken, load_checked, write_atomically

WORTH_KEEPING = (
    "checkpoints",
    "metrics.csv",
    "metrics.json",
)  # a folder with none of these holds no training


def reserve(wanted: Path, exact: bool) -> Path:
    """Make a new folder for a run, atomically, so that no two launches share one.

    Args:
        wanted: its name; a number is put behind it where it is taken.
        exact: the user chose the name: an empty folder of it is used, anything else there is an error.
    """
    if exact and wanted.exists():
        if not wanted.is_dir() or any(wanted.iterdir()):
            raise UserError(
                f"{wanted} exists and is not empty: resume={wanted} goes on with a run, another name starts one"
            )
        return wanted
    wanted.parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, 10_000):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise UserError(f"{wanted} and 10,000 names after it are taken")


def is_first_process() -> bool:
    """Is this the process that writes, of those that train one model together? Lightning and torchrun number them so."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def discard(folder: Path, parents: bool) -> None:
    """Remove the folder of a run (or sweep) that failed before it trained; with `parents` the two above it too, where empty."""
    if any(path for name in WORTH_KEEPING for path in folder.rglob(name)):
        return
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for empty in (folder, folder.parent, folder.parent.parent) if parents else (folder,):
        with contextlib.suppress(OSError):
            empty.rmdir()


def config_of(folder: Path) -> DictConfig:
    """The configuration that the run in `folder` was started with; a run without a checkpoint is an error."""
    last_checkpoint(folder)
    cfg = OmegaConf.load(folder / ".hydra" / "config.yaml")
    assert isinstance(cfg, DictConfig)
    return cfg


def write_config(folder: Path, cfg: DictConfig) -> None:
    """Have the run in `folder` go on as `cfg` says from now on."""
    write_atomically(
        folder / ".hydra" / "config.yaml", lambda path: path.write_text(OmegaConf.to_yaml(cfg))
    )


def is_classifier(model: DictConfig) -> bool:
    """Does this config of a model make a Classifier?"""
    return bool(model._target_ == "src.models.classifier.Classifier")


def expect_classifier(folder: Path, setting: str = "run") -> None:
    """Raise UserError, naming `setting`, unless the run in `folder` trained a classifier; its config tells."""
    model = config_of(folder).model
    if not is_classifier(model):
        family = model._target_.rpartition(".")[2]
        raise UserError(
            f"{setting}={folder} holds a {family}, which names no classes; a classifier's run is needed"
        )


def last_checkpoint(folder: Path) -> Path:
    """The newest checkpoint of the run in `folder`."""
    path = folder / "checkpoints" / "last.ckpt"
    if not (folder / ".hydra" / "config.yaml").is_file():
        raise UserError(
            f"{folder} is not a run's folder: {folder / '.hydra' / 'config.yaml'} is not there"
        )
    if not path.is_file():
        raise UserError(
            f"{folder} has no checkpoint: {path} is not there (nothing to go on with; start a new run)"
        )
    return path


def checkpoint_at(path: Path) -> Path:
    """What model.init_from=`path` means: the newest checkpoint of the classifier's run in that folder, or that file."""
    if path.is_dir():
        expect_classifier(path, "model.init_from")
        return last_checkpoint(path)
    if not path.is_file():  # RUN: as recipes leave it that cannot know it
        wrong = " must be given" if str(path) == "RUN" else f"={path} is not there"
        raise UserError(
            f"model.init_from{wrong}: it should be the folder of a run, or a checkpoint"
        )
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint at `path`, on the CPU; plain values only. Raises UserError where a byte of it is wrong."""
    try:
        return load_checked(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there") from error
    except Broken as error:
        raise UserError(f"{path} is a broken checkpoint: {error}") from error


def write_metrics(folder: Path, values: dict[str, Any], merge: bool = True) -> None:
    """Merge `values` into the run's metrics.json, or put them in its place; a float that is no number, which JSON has not, is
    null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
    merged = {**(read_metrics(folder) if merge else {}), **finite}
    text = json.dumps(merged, indent=2) + "\n"
    write_atomically(folder / "metrics.json", lambda path: path.write_text(text))


def read_metrics(folder: Path) -> dict[str, Any]:
    """The run's metrics.json; empty where there is none yet."""
    path = folder / "metrics.json"
    return json.loads(path.read_text()) if path.is_file() else {}
