"""TensorBoard's events and metrics.csv. A resumed run drops what was logged after its checkpoint.

Events that cannot be written are left out. metrics.csv is written with each checkpoint, and a write
error ends the run, as it does for a checkpoint.
"""

import contextlib
import csv
import io
import itertools
import logging
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.writer import FileWriter

from src.callbacks.hparams import given_settings, hparam_summaries
from src.core.errors import first_line, optional
from src.core.files import set_aside, utf8, write_atomically
from src.core.runs import is_first_process
from src.core.types import AnyLength
from src.metrics.key_metrics import MAX_KEY_METRICS, format_value
from src.viz import grids

log = logging.getLogger(__name__)


FLUSH_SECONDS, FLUSH_BYTES = 10.0, 2**20


def batches_at(metrics: dict[str, float], step: int | None) -> int:
    """Return the number of batches seen when `metrics` were logged under Lightning's `step`.

    Lightning logs a batch and the validation after it under the index of the batch, and the test
    under the number of batches.
    """
    return (step or 0) + (not any(name.startswith("test/") for name in metrics))


class EventFile:
    """A file of TensorBoard events, with the methods of TensorBoard's own EventFileWriter.

    The thread that adds events also writes them, so that it can handle errors. Events that cannot
    be written are left out.

    Args:
        folder: folder of the file, created with the first events.
    """

    counter = itertools.count()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        stem = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}"
        self.path = folder / f"{stem}.{os.getpid()}.{next(self.counter)}"
        self.pending, self.flushed = io.BytesIO(), time.monotonic()
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def get_logdir(self) -> str:
        return str(self.folder)

    def add_event(self, event: Event) -> None:
        RecordWriter(self.pending).write(event.SerializeToString())
        is_late = time.monotonic() - self.flushed > FLUSH_SECONDS
        if is_late or self.pending.tell() > FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the events to the file; if that fails, drop them and keep earlier ones readable."""
        with optional("could not write TensorBoard's events", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            before = self.path.stat().st_size if self.path.exists() else 0
            try:
                with self.path.open("ab") as file:
                    file.write(self.pending.getbuffer())
            except OSError:
                with contextlib.suppress(OSError):
                    os.truncate(self.path, before)
                raise
        self.pending, self.flushed = io.BytesIO(), time.monotonic()

    def close(self) -> None:
        self.flush()


class Events(SummaryWriter):
    """A SummaryWriter that writes to an `EventFile`.

    TensorBoard ignores events of older files from `purge_step` on.
    """

    file_writer: Any
    all_writers: Any

    def _get_file_writer(self) -> FileWriter:
        if self.file_writer is None:
            writer = FileWriter.__new__(FileWriter)  # whose own __init__ starts a thread
            writer.event_writer = EventFile(Path(self.log_dir))
            self.file_writer, self.all_writers = writer, {self.log_dir: writer}
            if self.purge_step is not None:
                start = SessionLog(status=SessionLog.START)
                writer.add_event(Event(file_version="brain.Event:2"), self.purge_step)
                writer.add_event(Event(session_log=start), self.purge_step)
                self.purge_step = None
        return self.file_writer


def image_summary(tag: str, encoded: bytes, picture: np.ndarray) -> Summary:
    """Return a summary for the IMAGES tab, which passes the bytes of a PNG or GIF to the browser.

    Args:
        tag: its name.
        encoded: the bytes.
        picture: its pixels, or its first frame: (H, W) or (H, W, 3).
    """
    height, width = picture.shape[:2]
    colors = 1 if picture.ndim == 2 else 3
    image = Summary.Image(
        height=height, width=width, colorspace=colors, encoded_image_string=encoded
    )
    return Summary(value=[Summary.Value(tag=tag, image=image)])


class TensorBoard(TensorBoardLogger):
    """TensorBoard's events in the run's folder.

    Args:
        folder: the run.
        batches_done: later events, which are from an interrupted session, are ignored.
        columns: settings that the HPARAMS tab shows: those that a sweep varies.
        metrics: metrics that come first there: the objectives of a sweep.
    """

    def __init__(
        self,
        folder: Path,
        batches_done: int,
        columns: AnyLength[str] = (),
        metrics: AnyLength[str] = (),
    ) -> None:
        super().__init__(str(folder), name="", version="", default_hp_metric=False)
        self.folder, self.purge = folder, batches_done + 1 if batches_done else None
        self.columns, self.metrics = list(columns), list(metrics)
        self.batches = batches_done  # batches finished when the newest metrics were logged

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        if self._experiment is None:
            self._experiment = Events(str(self.folder), purge_step=self.purge)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Write curves. Metrics of the test have one point each: `log_final` writes them."""
        values = {
            name: value
            for name, value in metrics.items()
            if name != "epoch" and not name.startswith("test")
        }
        self.batches = batches_at(metrics, step)
        super().log_metrics(values, self.batches)

    @rank_zero_only
    def log_text(self, tag: str, text: str, step: int) -> None:
        """Write Markdown to the Text tab."""
        self.experiment.add_text(tag, utf8(text).decode(), step)
        self.experiment.flush()

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `log_final` writes them, together with the metrics."""

    @rank_zero_only
    def log_image(self, key: str, images: list[np.ndarray], step: int | None = None) -> None:
        for image in images:
            summary = image_summary(key, grids.png(image), image)
            self.experiment._get_file_writer().add_summary(summary, step)

    @rank_zero_only
    def log_final(self, settings: dict[str, Any], metrics: dict[str, float]) -> None:
        """Write a row of the HPARAMS tab, and all metrics to the Text tab.

        The tab needs scalars. Those of the test are called `z_test/NAME`, so that curves come first
        among the scalars.
        """
        chosen = [name for name in self.metrics if name in metrics]
        names = list(dict.fromkeys([*chosen, *metrics]))[:MAX_KEY_METRICS]
        scalars = {name.replace("test/", "z_test/", 1): metrics[name] for name in names}
        for name, value in scalars.items():
            if name not in metrics:
                self.experiment.add_scalar(name, value, self.batches)
        first = self.columns or given_settings(self.folder) or ["model", "data"]
        for summary in hparam_summaries(settings, first, list(scalars), bool(self.columns)):
            self.experiment._get_file_writer().add_summary(summary)
        rows = [f"| {name} | {format_value(value)} |" for name, value in metrics.items()]
        self.log_text("metrics", "\n".join(["| | |", "| --- | --- |", *rows]), self.batches)

    @rank_zero_only
    def save(self) -> None:
        self.experiment.flush()


def read_rows(path: Path, batches_done: int) -> dict[int, dict[str, str]]:
    """Read the rows of a metrics.csv up to `batches_done`: batches -> metric -> number.

    Raises:
        ValueError: the file is damaged.
    """
    rows: dict[int, dict[str, str]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, strict=True)
        if "batches" not in (reader.fieldnames or ()):
            raise ValueError("no column 'batches'")
        for row in reader:
            if None in row or None in row.values():
                n = len(reader.fieldnames or ())
                raise ValueError(f"line {reader.line_num} does not have {n} values")
            numbers = {name: value for name, value in row.items() if name != "batches" and value}
            for value in numbers.values():
                float(value)
            if (batches := int(row["batches"])) <= batches_done:
                rows[batches] = numbers
    return rows


class CSVLogger(Logger):
    """Write folder/metrics.csv: a row per step, a column per metric, empty where there is no value.

    Args:
        folder: the run.
        batches_done: later rows, which are from an interrupted session, are dropped.
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
                        "%s is damaged (%s); renamed to %s", self.path, first_line(error), kept
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
        """Do nothing: they are in .hydra/config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = self.rows.setdefault(batches_at(metrics, step), {})
        row.update({name: repr(float(value)) for name, value in metrics.items() if name != "epoch"})

    @rank_zero_only
    def save(self) -> None:
        self.columns = sorted({name for row in self.rows.values() for name in row})
        write_atomically(self.path, self._write)

    def _write(self, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["batches", *self.columns])
            writer.writeheader()
            for step in sorted(self.rows):
                writer.writerow({"batches": step, **self.rows[step]})

    @rank_zero_only
    def finalize(self, status: str) -> None:
        with contextlib.suppress(OSError):  # saved with each checkpoint, and by `report`
            self.save()
