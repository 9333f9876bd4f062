"""Measure how long each part of a run takes: the setting `profiler`."""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import SimpleProfiler
from torch.profiler import ProfilerActivity, profile, schedule

from src.core.counts import count
from src.core.errors import optional
from src.core.files import write_atomically
from src.core.progress import progress
from src.core.runs import is_first_process

log = logging.getLogger(__name__)

TABLE, TRACE = "profile.txt", "profile_trace.json"  # files in the run's folder
SHOWN = 12  # rows on the terminal
BATCHES = 10  # that profiler=pytorch records
PYTHON = "(Python, between the operators)"


class SimpleProfile(SimpleProfiler):
    """Time each hook of the Trainer, the model and the callbacks, for profiler=simple.

    After training, and again after the test, the table is in the run's folder; after training its
    largest rows go to the log. An action contains others: run_training_batch contains the callbacks
    of a batch.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def describe(self) -> None:
        if not is_first_process():
            return
        rows, _, total = self._make_report_extended()
        lines = table(
            ("action", "calls", "ms per call", "seconds", "share"),
            [
                (short(name), f"{calls:,}", f"{1000 * mean:,.2f}", f"{seconds:,.2f}",
                 f"{share:.1f}%")
                for name, mean, calls, seconds, share in rows
            ],
        )  # fmt: skip
        save(self.folder, "\n".join([*lines, f"seconds in all: {total:,.2f}", ""]))
        if self._stage == "fit":
            show(self.folder, f"profile of {total:,.1f} seconds; an action contains others", lines)


class OperatorProfile(pl.Callback):
    """Record the operators of a few training batches, for profiler=pytorch.

    The table of the operators and a trace, for a browser's trace viewer, go into the run's folder;
    the operators that take longest go to the log.

    Args:
        folder: the run's folder.
    """

    profiler: Any = None
    first: int = 0
    last: int = 0

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        done, left = progress(trainer).batch, progress(trainer).total - progress(trainer).batch
        if is_first_process() and left < 3:
            log.info("profiler=pytorch records nothing: it needs at least 3 training batches")
        elif is_first_process():
            self.first = done + int(min(BATCHES, left // 2))  # early batches are not typical
            self.last = self.first + int(min(BATCHES, done + left - self.first - 1))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if progress(trainer).batch == self.first and self.last > self.first:
            activities = [ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(ProfilerActivity.CUDA)
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its messages are for developers
            self.profiler = profile(
                activities=activities,
                schedule=schedule(wait=0, warmup=1, active=self.last - self.first, repeat=1),
                acc_events=True,
            )
            self.profiler.start()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if self.profiler is None:
            return
        is_last = progress(trainer).batch > self.last
        if not is_last:
            self.profiler.step()
        else:
            self._finish()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finish()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._finish()

    def _finish(self) -> None:
        """Stop recording, and write the results."""
        if self.profiler is None:
            return
        recorded, self.profiler = self.profiler, None
        recorded.stop()
        events = recorded.key_averages()
        on_gpu = torch.cuda.is_available()
        key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        events = sorted(events, key=lambda event: -getattr(event, key))
        total = sum(getattr(event, key) for event in events) or 1.0
        rows = []
        for event in events:
            name = PYTHON if event.key.startswith("ProfilerStep") else event.key
            device = [f"{event.self_device_time_total / 1000:,.2f}"] if on_gpu else []
            cpu, share = event.self_cpu_time_total / 1000, 100 * getattr(event, key) / total
            rows.append([name, f"{event.count:,}", f"{cpu:,.2f}", *device, f"{share:.1f}%"])
        header = ("operator", "calls", "CPU ms", *(["GPU ms"] if on_gpu else []), "share")
        lines = table(header, rows)
        save(self.folder, "\n".join([*lines, ""]))
        with optional("could not write the trace", self.folder):
            write_atomically(
                self.folder / TRACE, lambda path: recorded.export_chrome_trace(str(path))
            )
        batches = count(self.last - self.first, "batch")
        show(self.folder, f"profile of {batches}, without the operators inside others", lines)


def short(action: str) -> str:
    """Return the name of an action without the settings of a callback: [Callback]Samples.setup."""
    return re.sub(r"\{.*\}", "", action)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with aligned columns, the first one to the left."""
    cells = [[f"{line[0]:.60}", *line[1:]] for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]


def save(folder: Path, text: str) -> None:
    """Write the table to the run's folder; if that fails, it is left out."""
    with optional("could not write the profile", folder):
        write_atomically(folder / TABLE, lambda path: path.write_text(text, encoding="utf-8"))


def show(folder: Path, title: str, lines: list[str]) -> None:
    """Log the first rows of a table."""
    log.info("%s (all of it: %s)", title, folder / TABLE)
    for line in lines[: SHOWN + 1]:
        log.info("  %s", line)
