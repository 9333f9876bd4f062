"""The bookkeeping of the best checkpoints of a run."""

import contextlib
import math
import os
import shutil
from pathlib import Path
from typing import Any, Literal

from src.core.chosen_checkpoint import BEST
from src.core.files import write_atomically


class BestCheckpoints:
    """Keep the checkpoints with the best values of a metric.

    Each is a link to last.ckpt, which costs no space until last.ckpt is replaced. last.ckpt also
    records which checkpoints are the best: if a process is killed before it makes a link, `link`
    makes it when the run is resumed.

    Args:
        folder: the run's folder `checkpoints`.
        monitor: name of the metric.
        mode: whether `min` or `max` is better.
        keep: number of checkpoints. The best is best.ckpt; with more than one, each is also
            batch_N.ckpt, written after N batches.

    Attributes:
        kept: value and batches of each, the best first. The earlier of two equal values is better.
    """

    def __init__(self, folder: Path, monitor: str, mode: Literal["min", "max"], keep: int) -> None:
        self.folder, self.monitor, self.mode, self.keep = folder, monitor, mode, keep
        self.kept: list[dict[str, Any]] = []

    def observe(self, value: float, batches: int) -> None:
        """Record the metric's value after `batches` batches; ignore one that is not finite."""
        if not math.isfinite(value):
            return
        sign = 1 if self.mode == "min" else -1
        others = [one for one in self.kept if one["batches"] != batches]
        others.append({"value": value, "batches": batches})
        self.kept = sorted(others, key=lambda one: (sign * one["value"], one["batches"]))
        del self.kept[self.keep :]

    def is_kept(self, batches: int) -> bool:
        """Return whether the state after `batches` batches is among the best."""
        return any(one["batches"] == batches for one in self.kept)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores."""
        return {"monitor": self.monitor, "mode": self.mode, "kept": [dict(k) for k in self.kept]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state in a checkpoint, unless it is of another metric."""
        if (state.get("monitor"), state.get("mode")) == (self.monitor, self.mode):
            self.kept = [dict(one) for one in state["kept"][: self.keep]]

    def link(self, source: Path, batches: int) -> None:
        """Make the files equal to `kept`.

        Args:
            source: the checkpoint that was just written, or that the run is resumed from.
            batches: how many batches the run had trained on then.
        """
        names = {f"batch_{one['batches']}.ckpt" for one in self.kept}
        if not names:
            return
        best = self.kept[0]["batches"]
        best_file = self.folder / f"batch_{best}.ckpt"
        if self.keep > 1 and self.is_kept(batches):
            replace_by_link(source, self.folder / f"batch_{batches}.ckpt")
        if best == batches:
            replace_by_link(source, self.folder / BEST)
        elif self.keep > 1 and best_file.exists():  # a session that was killed had a better one
            replace_by_link(best_file, self.folder / BEST)
        elif self.keep > 1 and (self.folder / BEST).exists():  # earlier sessions kept only one
            replace_by_link(self.folder / BEST, best_file)
        for path in self.folder.glob("batch_*.ckpt"):
            if path.name not in names or self.keep == 1:
                path.unlink()


def replace_by_link(source: Path, target: Path) -> None:
    """Make `target` a link to the file `source`, atomically; a copy where links do not work."""
    if target.exists() and target.samefile(source):
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # a file system without links
        write_atomically(target, lambda path: shutil.copyfile(source, path))
        return
    try:
        temporary.replace(target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
