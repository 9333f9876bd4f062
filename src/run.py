"""What a run leaves behind, and opening it again: its folder, its config, its checkpoints, metrics.json."""

import contextlib
import json
import logging
import math
import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.errors import UserError, first_line
from src.files import Broken, load_checked, set_aside, write_atomically

log = logging.getLogger(__name__)

PUT_BACK = "put a copy of it back, or train again"
PARTS: dict[str, type] = {  # of a checkpoint that training wrote
    "state_dict": dict,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "epoch": int,
    "global_step": int,
    "pytorch-lightning_version": str,
}
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
    path = config_path(folder)
    try:
        cfg = OmegaConf.load(path)
        assert isinstance(cfg, DictConfig), "it holds no settings by name"
        assert isinstance(OmegaConf.select(cfg, "model._target_"), str), "it names no model"
    except Exception as error:  # YAML, OmegaConf and the disk each raise their own
        raise UserError(f"{path} is damaged ({first_line(error)}): {PUT_BACK}") from error
    return cfg


def config_path(folder: Path) -> Path:
    """Where the run in `folder` keeps its configuration."""
    return folder / ".hydra" / "config.yaml"


def write_config(folder: Path, cfg: DictConfig) -> None:
    """Have the run in `folder` go on as `cfg` says from now on."""
    write_atomically(config_path(folder), lambda path: path.write_text(OmegaConf.to_yaml(cfg)))


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
    if not config_path(folder).is_file():
        raise UserError(f"{folder} is not a run's folder: {config_path(folder)} is not there")
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


def load_training(path: Path) -> dict[str, Any]:
    """The checkpoint at `path`, as `load_checkpoint`. Raises UserError where training did not write it."""
    checkpoint = load_checkpoint(path)
    try:
        wrong = [key for key, kind in PARTS.items() if not isinstance(checkpoint[key], kind)]
        batches_in(checkpoint)
    except Exception as error:  # a part is missing, or of another shape
        raise UserError(
            f"{path} holds no training of this version ({first_line(error)}): {PUT_BACK}"
        ) from error
    if wrong:
        raise UserError(f"{path} holds no training: its {wrong[0]} is of another kind; {PUT_BACK}")
    return checkpoint


def batches_in(checkpoint: dict[str, Any]) -> int:
    """How many batches the run had seen when it was written."""
    return int(checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"])


def write_metrics(folder: Path, values: dict[str, Any]) -> None:
    """Merge `values` into the run's metrics.json; what is no number there, as JSON knows none, is null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
    move_broken_metrics(folder)
    merged = {**read_metrics(folder), **finite}
    text = json.dumps(merged, indent=2) + "\n"
    write_atomically(folder / "metrics.json", lambda path: path.write_text(text))


def read_metrics(folder: Path) -> dict[str, Any]:
    """The run's metrics.json; empty where there is none yet. Raises UserError where it is damaged."""
    path = folder / "metrics.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, or no JSON
        raise UserError(f"{path} is damaged ({first_line(error)}): move it away") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is damaged (it holds no figures by name): move it away")
    return values


def move_broken_metrics(folder: Path) -> None:
    """Rename a metrics.json that cannot be read, and say so: the figures that come must not be lost with it."""
    try:
        read_metrics(folder)
    except UserError as error:
        if is_first_process():
            log.warning("%s: it is now %s", error, set_aside(folder / "metrics.json"))
