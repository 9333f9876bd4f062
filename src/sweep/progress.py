"""How far a sweep is: the lines at the start and the end of each job."""

import math
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from src.config.objective import Objective, objective_values
from src.core import run_record, run_search, runs
from src.core.errors import UserError
from src.sweep.names import short_values


class Progress:
    """Describe a sweep from the folders of its jobs, so that it works in every process.

    Args:
        folder: the sweep.
        total: number of its jobs.
        wanted: the objectives, of which the first one says which job is the best.
        again: names of the jobs of earlier sessions that this one runs again.
    """

    def __init__(
        self, folder: Path, total: int, wanted: list[Objective], again: Collection[str] = ()
    ) -> None:
        self.folder, self.total, self.wanted, self.again = folder, total, wanted, again
        self.started = time.time()
        self.done_before = self.count()

    def start(self, folder: Path, values: Mapping[str, str], is_resumed: bool) -> str:
        """Return the line at the start of a job."""
        again = ", resumed from its checkpoint" if is_resumed else ""
        return f"job {self.count() + 1} of {self.total}: {short_values(values)}{again}"

    def end(self, folder: Path) -> str:
        """Return the line at the end of a job: its result, the best so far, the time left."""
        ended = list(self._ended())
        parts = [f"{len(ended)} of {self.total} jobs done"]
        metric, mode = self.wanted[0]
        scores = [(value, path.name) for path in ended if (value := self._value(path)) is not None]
        if scores:
            best = min(scores) if mode == "min" else max(scores)
            parts.append(f"best {metric} {best[0]:.4g} ({best[1]})")
        now, before = len(ended) - self.done_before, time.time() - self.started
        if now > 0 and len(ended) < self.total:
            parts.append(f"about {_duration(before / now * (self.total - len(ended)))} left")
        value = self._value(folder)
        own = f": {metric} {value:.4g}" if value is not None else ""
        return f"job {folder.name} {self._state(folder)}{own}; {', '.join(parts)}"

    def count(self) -> int:
        """Return the number of jobs that have ended."""
        return sum(1 for _ in self._ended())

    def _ended(self) -> Iterator[Path]:
        """Yield the folders of the jobs that have ended, and do not run again."""
        for path in sorted(self.folder.glob(f"*/{run_record.NAME}")):
            folder = path.parent
            waits = folder.name in self.again and run_search.started(folder) < self.started
            state = self._state(folder)
            if not waits and state not in (run_record.RUNNING, run_record.INTERRUPTED):
                yield folder

    @staticmethod
    def _state(folder: Path) -> str:
        return run_record.state_of(folder, run_record.read(folder))

    def _value(self, folder: Path) -> float | None:
        """Return the first objective of a finished job."""
        if self._state(folder) != run_record.FINISHED:
            return None
        try:
            (value,) = objective_values(runs.read_metrics(folder), self.wanted[:1])
        except UserError:
            return None
        return value if math.isfinite(value) else None


def _duration(seconds: float) -> str:
    """Return a duration as a person says it: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
