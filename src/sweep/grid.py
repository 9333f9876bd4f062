"""A grid: every combination of the swept values."""

from pathlib import Path

from src.core import run_record
from src.sweep.job import Job, Outcome
from src.sweep.names import folder_name
from src.sweep.space import Space


class Grid:
    """The jobs of a grid. Those that an earlier session finished are not run again.

    Args:
        space: the swept keys, all with a list of values.
        folder: the sweep.
        at_once: whether the launcher gets all jobs together, since it runs them side by side.
    """

    pruning = None

    def __init__(self, space: Space, folder: Path, at_once: bool) -> None:
        taken: set[str] = set()
        self._jobs = [
            Job(folder / folder_name(values, taken), space.job(values), values, number)
            for number, values in enumerate(space.grid())
        ]
        self.total, self.at_once = len(self._jobs), at_once
        ended = (run_record.FINISHED, run_record.PRUNED)
        states = {
            job.name: run_record.state_of(job.folder, run_record.read(job.folder))
            for job in self._jobs
            if job.folder.is_dir()
        }
        self.waiting = [job for job in self._jobs if states.get(job.name) not in ended]
        running = [job for job in self._jobs if states.get(job.name) == run_record.RUNNING]
        if running:  # another rank of this job has started this process, see `src.sweep.sweeper`
            self.waiting = self.waiting[self.waiting.index(running[0]) :]

    def next_jobs(self) -> list[Job]:
        """Return the jobs to launch now; none if all have been launched."""
        n = len(self.waiting) if self.at_once else 1
        jobs, self.waiting = self.waiting[:n], self.waiting[n:]
        return jobs

    def jobs(self) -> list[Job]:
        """Return all jobs, also those of earlier sessions."""
        return self._jobs

    def finish(self, job: Job, result: Outcome) -> None:
        """Do nothing: the folder of the job says all."""
