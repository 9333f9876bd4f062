"""Where numbers go: TensorBoard's events and metrics.csv. A resumed run forgets what was logged after its checkpoint."""

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only


def tensorboard(folder: Path, batches_done: int) -> TensorBoardLogger:
    """Events in the run's folder."""
    purge = {"purge_step": batches_done} if batches_done else {}
    return TensorBoardLogger(str(folder), name="", version="", default_hp_metric=False, **purge)


class CSV(Logger):
    """folder/metrics.csv: a row a step, a column a metric, empty where a step has no value.

    Args:
        folder: of the run.
        batches_done: rows from here on are from a session that was cut, and are dropped.
    """

    def __init__(self, folder: Path, batches_done: int) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self.rows: dict[int, dict[str, str]] = {}
        self.columns: list[str] = []
        if batches_done and self.path.exists():
            with self.path.open(newline="") as file:
                for row in csv.DictReader(file):
                    if int(row["batches"]) <= batches_done:
                        self.rows[int(row["batches"])] = {k: v for k, v in row.items() if k != "batches" and v}
            self.columns = sorted({name for row in self.rows.values() for name in row})

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """They are in .hydra/config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = self.rows.setdefault((step or 0) + 1, {})  # Lightning numbers a batch from 0; a row counts batches seen
        row.update({name: repr(float(value)) for name, value in metrics.items() if name != "epoch"})

    @rank_zero_only
    def save(self) -> None:
        self.columns = sorted({name for row in self.rows.values() for name in row})
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["batches", *self.columns])
            writer.writeheader()
            for step in sorted(self.rows):
                writer.writerow({"batches": step, **self.rows[step]})

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()
