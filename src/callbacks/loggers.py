"""Where numbers go: TensorBoard's events and metrics.csv. A resumed run forgets what was logged after its checkpoint."""

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.tensorboard.summary import hparams

from src.data.base import log
from src.errors import first_line
from src.files import set_aside, write_atomically
from src.run import is_first_process


def batches_at(metrics: dict[str, float], step: int | None) -> int:
    """Batches seen when `metrics` were logged under Lightning's `step`.

    Lightning logs a batch, and the validation after it, under the batch's index, and the test under the number of batches.
    """
    return (step or 0) + (not any(name.startswith("test/") for name in metrics))


class Board(TensorBoardLogger):
    """TensorBoard's events in the run's folder.

    Args:
        folder: of the run.
        batches_done: events after these are from a session that was cut, and TensorBoard is told to forget them.
    """

    def __init__(self, folder: Path, batches_done: int) -> None:
        purge = batches_done + 1 if batches_done else None
        super().__init__(
            str(folder), name="", version="", default_hp_metric=False, purge_step=purge
        )

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        values = {name: value for name, value in metrics.items() if name != "epoch"}
        super().log_metrics(values, batches_at(metrics, step))

    @rank_zero_only
    def log_final(self, settings: dict[str, Any], metrics: dict[str, float]) -> None:
        """A row of the HPARAMS tab: plain settings with the figures they led to, which are scalars of this run already."""
        for summary in hparams(settings, metrics):
            self.experiment._get_file_writer().add_summary(summary)
        self.experiment.flush()

    @rank_zero_only
    def save(self) -> None:
        self.experiment.flush()


def read_rows(path: Path, batches_done: int) -> dict[int, dict[str, str]]:
    """The rows of a metrics.csv up to `batches_done`: batches -> metric -> number. Raises ValueError where it is damaged."""
    rows: dict[int, dict[str, str]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, strict=True)
        if "batches" not in (reader.fieldnames or ()):
            raise ValueError("no column 'batches'")
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(
                    f"line {reader.line_num} has not {len(reader.fieldnames or ())} values"
                )
            numbers = {name: value for name, value in row.items() if name != "batches" and value}
            for value in numbers.values():
                float(value)
            if (batches := int(row["batches"])) <= batches_done:
                rows[batches] = numbers
    return rows


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
            try:
                self.rows = read_rows(self.path, batches_done)
            except (OSError, ValueError, csv.Error) as error:
                if is_first_process():
                    kept = set_aside(self.path)
                    log.warning(
                        "%s is damaged (%s): it is now %s", self.path, first_line(error), kept
                    )
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
        row = self.rows.setdefault(batches_at(metrics, step), {})
        row.update({name: repr(float(value)) for name, value in metrics.items() if name != "epoch"})

    @rank_zero_only
    def save(self) -> None:
        self.columns = sorted({name for row in self.rows.values() for name in row})
        write_atomically(self.path, self._write)

    def _write(self, path: Path) -> None:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["batches", *self.columns])
            writer.writeheader()
            for step in sorted(self.rows):
                writer.writerow({"batches": step, **self.rows[step]})

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()
