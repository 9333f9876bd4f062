"""Measure how long a training command takes to its first batch, and its memory."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.core.errors import UserError, first_line

FIRST = " batch 1/"  # in the line that the progress callback logs after the first batch
BATCHES = 20  # length of the run that measures the memory


@dataclass
class Start:
    """One start of a run.

    Attributes:
        seconds: from the start of the process until the first batch was trained.
        peak_memory_mb: largest memory of the run, test included, in MiB.
    """

    seconds: float
    peak_memory_mb: float


def measure_starts(overrides: Sequence[str], n: int) -> list[Start]:
    """Train `n` times after a first run that fills the caches, each time for a few batches.

    Args:
        overrides: the command line of src.bench; settings of `bench` itself are left out.

    Raises:
        UserError: a run failed.
    """
    kept = [o for o in overrides if not o.lstrip("+").startswith("bench.")]
    return [_start(kept) for _ in range(n + 1)][1:]


def _start(overrides: Sequence[str]) -> Start:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [
            *(sys.executable, "-m", "src.train", *overrides),
            *("trainer.max_epochs=1", f"trainer.limit_train_batches={BATCHES}"),
            *("callbacks.progress.every_n_seconds=1e-9", f"hydra.run.dir={run}"),
        ]
        begin, seconds, last = time.perf_counter(), 0.0, ""
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            for line in process.stderr or ():
                if not seconds and FIRST in line:
                    seconds = time.perf_counter() - begin
                last = line
        if process.returncode or not seconds:
            raise UserError(f"python -m src.train failed: {first_line(Exception(last))}")
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        return Start(seconds, metrics["peak_memory_mb"])
