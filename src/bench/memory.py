"""Measure the memory of a training process and of its workers."""

import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from src.core.memory import largest_child_mb

INTERVAL = 0.2  # seconds between two looks at the workers


class PeakMemory:
    """Measure the peak memory while a block trains: `with PeakMemory() as memory: ...`.

    The sum of the processes' resident memory would count the pages that a worker shares with its
    parent several times: the libraries alone are hundreds of MiB. So a thread looks at the private
    pages of the workers, which Linux reports. Elsewhere the workers count as one process, the
    largest, with its shared pages.
    """

    def __init__(self) -> None:
        self.workers = 0.0  # MiB
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.is_over.set()
        self.thread.join()

    def peak_mb(self) -> float:
        """Return the peak in MiB: that of the GPU if it was used, else of all processes."""
        import torch

        from src.callbacks.train_metrics import peak_memory_mb

        if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
            return peak_memory_mb()
        if sys.platform != "linux":
            self.workers = largest_child_mb()
        return peak_memory_mb() + self.workers

    def _watch(self) -> None:
        while not self.is_over.wait(INTERVAL):
            self.workers = max(self.workers, sum(private_mb(pid) for pid in children()))


def children() -> list[str]:
    """Return the ids of the processes that this one started and that run; on Linux only."""
    found: list[str] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            found += path.read_text().split()
    return found


def private_mb(pid: str) -> float:
    """Return the memory that a process shares with no other, in MiB; 0 if it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    lines = [line.split() for line in text.splitlines() if line.startswith("Private_")]
    return sum(float(kib) for _, kib, _ in lines) / 1024
