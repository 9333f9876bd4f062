"""Values and pictures of a run in Weights & Biases, offline by default."""

import logging
import os
import shlex
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from src.callbacks.loggers import batches_at
from src.callbacks.outbox import Outbox
from src.core import run_record
from src.core.errors import UserError, first_line
from src.core.runs import is_first_process

log = logging.getLogger(__name__)

X_AXIS = "batches"


class WandB(Logger):
    """A run of Weights & Biases with the settings, metrics and pictures of ours.

    A resumed run continues it, under the same id. Offline, each session writes a folder
    wandb/offline-run-* in the run's folder, for `wandb sync`. SIGKILL can cost the values of the
    last second before it.

    Args:
        folder: the run's folder.
        batches_done: not used: `Outbox` knows what was sent.
        project: name of the project.
        entity: user or team; None: that of the account.
        mode: `offline` writes files only, `online` needs an account.
    """

    package: ClassVar[str] = "wandb"

    def __init__(
        self,
        folder: Path,
        batches_done: int,
        project: str,
        entity: str | None,
        mode: Literal["offline", "online"],
    ) -> None:
        super().__init__()
        self.folder, self.project, self.entity, self.mode = folder, project, entity, mode
        self.outbox = Outbox(folder / "wandb.json")
        self.run: Any = None
        self.warned = False
        if is_first_process():
            try:
                self._start()
            except Exception as error:  # wandb and the network can raise any exception type
                raise UserError(
                    f"wandb cannot start with mode={mode}: {first_line(error)}"
                ) from error

    @property
    def name(self) -> str:
        return self.project

    @property
    def version(self) -> str | None:
        return self.outbox.run_id

    def _start(self) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        settings = run_record.read(self.folder).get("settings", {})
        self.run = wandb.init(
            project=self.project,
            entity=self.entity,
            id=self.outbox.run_id,
            resume="allow",
            name=settings.get("name") or "/".join(self.folder.absolute().parts[-2:]),
            tags=settings.get("tags"),
            notes=settings.get("note"),
            dir=str(self.folder),
            mode=self.mode,
            reinit="create_new",  # the jobs of a sweep share a process
            settings=wandb.Settings(
                console="off", silent=True, save_code=False, x_transaction_log_flush_interval=1.0
            ),
        )
        if self.outbox.run_id is None:
            self.outbox.run_id = self.run.id
            self.outbox.write()
        self.run.define_metric(X_AXIS)
        self.run.define_metric("*", step_metric=X_AXIS)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.run.config.update(params, allow_val_change=True)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        self._add(batches_at(metrics, step), values)

    @rank_zero_only
    def log_image(self, key: str, images: list[np.ndarray], step: int | None = None) -> None:
        for image in images:
            self._add(step or 0, {key: image})

    def _add(self, batches: int, values: dict[str, Any]) -> None:
        if self.run is None:  # finished
            return
        self.outbox.add(batches, values)
        if self.outbox.is_due:
            self.save()

    @rank_zero_only
    def log_final(self, settings: dict[str, Any], metrics: dict[str, float]) -> None:
        """Write the metrics of the finished run to its summary, and end it."""
        if self.run is not None:
            self.run.summary.update(metrics)
            self._finish(0)

    @rank_zero_only
    def save(self) -> None:
        """Send what waits, with a row for each number of batches."""
        import wandb

        rows: dict[int, dict[str, Any]] = {}
        for batches, tag, value in self.outbox.take():
            row = rows.setdefault(batches, {X_AXIS: batches})
            row[tag] = wandb.Image(value) if isinstance(value, np.ndarray) else value
        try:
            for row in rows.values():
                self.run.log(row)
        except Exception as error:  # wandb can raise any exception type
            if not self.warned:
                self.warned = True
                log.warning("could not send values to wandb (%s)", first_line(error))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self.run is None:
            return
        self.save()
        if status not in ("success", "finished"):  # otherwise the test follows
            self._finish(1)

    def _finish(self, exit_code: int) -> None:
        self.save()
        self.run.finish(exit_code=exit_code)
        self.run = None

    def how_to_open(self) -> str:
        """Return a line that says how to see the run."""
        if self.mode == "online":
            return f"wandb        project {self.project}, run {self.outbox.run_id}"
        return f"wandb        wandb sync {shlex.quote(str(self.folder))}/wandb/offline-run-*"
