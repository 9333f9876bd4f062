"""Read the contents of a checkpoint, and check that a run can continue from it."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig

from src.config.signatures import class_attribute
from src.core import runs
from src.core.errors import UserError


def batches_done(checkpoint: dict[str, Any] | None) -> int:
    """Return how many batches the run had seen when `checkpoint` was written; 0 without one."""
    return 0 if checkpoint is None else runs.batches_in(checkpoint)


def data_state(cfg: DictConfig, checkpoint: dict[str, Any], path: Path | str) -> dict[str, Any]:
    """Return the state of the data module in `checkpoint`, which was read from `path`.

    Lightning stores it under the name of the class. Raises UserError if it is missing.
    """
    needed = class_attribute(cfg.data._target_, "state_keys")
    if not needed:
        return {}
    state = checkpoint.get(cfg.data._target_.rpartition(".")[2])
    state = state if isinstance(state, dict) else {}
    if not state.keys() >= set(needed):
        raise UserError(
            f"{path} has no state of data={cfg.data.name}, which the run's config names: it "
            "was written for other data, or by another version of the project; "
            f"{runs.PUT_BACK}"
        )
    return state


def expect_same_files(
    datamodule: Any, cfg: DictConfig, checkpoint: dict[str, Any], path: Path
) -> None:
    """Raise UserError if training images were added, removed or renamed since `checkpoint`.

    Training and validation images are drawn from all of them, so another draw would validate on
    images that the run has trained on.
    """
    now = getattr(datamodule, "training_files", None)
    then = data_state(cfg, checkpoint, path).get("training_files", now)
    if now != then:
        raise UserError(
            f"the training files in {datamodule.root} have changed since the run began: {then} "
            f"then, {now} now. A resumed run needs the same ones: restore them "
            "(data.exclude=FILE leaves out new ones)"
        )


def expect_weights(model: pl.LightningModule, checkpoint: dict[str, Any], path: Path) -> None:
    """Raise UserError unless the weights in `checkpoint` have the names and shapes of `model`."""
    ours, theirs = (
        {name: getattr(value, "shape", None) for name, value in state.items()}
        for state in (model.state_dict(), checkpoint["state_dict"])
    )
    if wrong := [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]:
        raise UserError(
            f"{path} does not fit the {type(model).__name__} that the run's config describes "
            f"({len(wrong)} weights differ, {wrong[0]} first): {runs.PUT_BACK}"
        )


def expect_fit(
    model: pl.LightningModule, cfg: DictConfig, checkpoint: dict[str, Any], path: Path
) -> None:
    """Raise UserError unless `model`, built from `cfg`, can continue from `checkpoint`.

    Args:
        path: the file of the checkpoint, for the error.
    """
    expect_weights(model, checkpoint, path)
    optimizers: Any = model.configure_optimizers()
    optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
    settings = cfg.model.optimizer.keys() - {"_target_", "_partial_"}
    try:
        theirs = [state["param_groups"] for state in checkpoint["optimizer_states"]]
        same = [[len(group["params"]) for group in groups] for groups in theirs] == [
            [len(group["params"]) for group in optimizer.param_groups] for optimizer in optimizers
        ] and all(settings <= group.keys() for groups in theirs for group in groups)
    except (AttributeError, KeyError, TypeError):
        same = False
    if not same:
        raise UserError(
            f"{path} has other optimizers than the run's config describes: {runs.PUT_BACK}"
        )
