"""The checkpoint of a run that a command uses: the last one, or the best."""

from pathlib import Path
from typing import Any, Literal

from src.core import runs
from src.core.errors import UserError

BEST = "best.ckpt"  # the one with the best value of checkpoint.monitor
Which = Literal["last", "best"]


def path_of(folder: Path, which: str) -> Path:
    """Return the path of a checkpoint of the run in `folder`.

    Args:
        which: `last` or `best`.

    Raises:
        UserError: there is no run, or no such checkpoint.
    """
    last = runs.last_checkpoint(folder)
    if which == "last":
        return last
    best = last.with_name(BEST)
    if not best.is_file():
        raise UserError(
            f"which=best: {best} does not exist; train with checkpoint.monitor=val/loss, "
            "for example, or use which=last"
        )
    return best


def load_chosen(folder: Path, which: str) -> dict[str, Any]:
    """Load the last or the best checkpoint of a run. Raises UserError if it is damaged."""
    return runs.load_last(folder) if which == "last" else runs.load_training(path_of(folder, which))
