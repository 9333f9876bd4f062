"""The results of a sweep: a row for each job, and the mean over the seeds of each point."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from src.config.objective import Objective
from src.core import run_record
from src.core.files import write_atomically
from src.metrics.key_metrics import WORDS
from src.runs.seeds import Estimate, estimate
from src.runs.table import lines
from src.sweep.job import Job, Outcome, outcome
from src.sweep.names import short_keys, short_value

SHOWN = 20  # lines of the printed table


class Row(NamedTuple):
    """A job with its outcome and its duration."""

    job: Job
    result: Outcome
    seconds: float


class Point(NamedTuple):
    """The jobs that differ only in their seed.

    Attributes:
        values: the text of each swept key but the seed.
        rows: one for each seed: a job that repeats another one is the same measurement.
        estimates: mean and interval of each objective; empty unless all its jobs have finished.
    """

    values: dict[str, str]
    rows: list[Row]
    estimates: list[Estimate]

    @property
    def state(self) -> str:
        """The state of the jobs that have not finished; else `finished`."""
        states = dict.fromkeys(row.result.state for row in self.rows)
        return ", ".join(s for s in states if s != run_record.FINISHED) or run_record.FINISHED


def rows_of(jobs: Sequence[Job], wanted: list[Objective], strict: bool = True) -> list[Row]:
    """Read the folder of each job."""
    found = []
    for job in jobs:
        sessions = run_record.read(job.folder).get("sessions", [])
        seconds = sum(float(one.get("seconds") or 0) for one in sessions)
        found.append(Row(job, outcome(job.folder, wanted, strict), seconds))
    return found


def points_of(rows: Sequence[Row], wanted: list[Objective]) -> list[Point]:
    """Return the points of a sweep, the best by the first objective first."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(_without_seed(row.job.values).items()), []).append(row)
    points = [_point(dict(key), group) for key, group in groups.items()]
    sign = 1 if wanted[0].mode == "min" else -1
    return sorted(points, key=lambda p: sign * p.estimates[0].mean if p.estimates else math.inf)


def _without_seed(values: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in values.items() if key.lstrip("+") != "seed"}


def _point(values: dict[str, str], jobs: list[Row]) -> Point:
    by_seed: dict[Any, Row] = {}
    for row in sorted(jobs, key=lambda row: row.result.values is None):  # finished ones first
        by_seed.setdefault(tuple(row.job.values.items()), row)
    rows = [row for row in jobs if row in by_seed.values()]
    finished = [row.result.values for row in rows if row.result.values is not None]
    complete = len(finished) == len(rows)
    means = [estimate(column) for column in zip(*finished, strict=True)] if complete else []
    return Point(values, rows, means)


def table(points: Sequence[Point], wanted: list[Objective]) -> str:
    """Return the table of a sweep: swept keys, objectives with their intervals, number of runs."""
    if not points:
        return "no jobs"
    short = short_keys(points[0].values)
    header = [*short.values(), *(f"{m} ({WORDS[mode]})" for m, mode in wanted), "runs", "state"]
    cells = [
        [
            *(short_value(point.values.get(key, "")) for key in short),
            *(map(str, point.estimates) if point.estimates else [""] * len(wanted)),
            str(len(point.rows)),
            point.state,
        ]
        for point in points
    ]
    text = lines(header, cells[:SHOWN])
    if len(cells) > SHOWN:
        text.append(f"and {len(cells) - SHOWN} more")
    if any(one.half is not None for point in points for one in point.estimates):
        text.append("±: 95% interval of the mean over the seeds (Student's t; wide for two seeds)")
    return "\n".join(text)


def write_csv(rows: Sequence[Row], wanted: list[Objective], path: Path) -> None:
    """Write a row per job: trial, folder, state, swept keys, objectives, seconds, error."""
    keys = {key: key.lstrip("+~") for row in rows for key in row.job.values}
    metrics = [metric for metric, _ in wanted]
    header = ["trial", "folder", "state", *keys.values(), *metrics, "seconds", "error"]

    def write(to: Path) -> None:
        with to.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, header, restval="")
            writer.writeheader()
            for job, result, seconds in rows:
                values = {keys[key]: value.strip("'\"") for key, value in job.values.items()}
                numbers = dict(zip(metrics, result.values or [], strict=False))
                writer.writerow({
                    **values, **numbers, "trial": job.trial, "folder": job.name,
                    "state": result.state, "seconds": round(seconds, 1),
                    "error": result.error or "",
                })  # fmt: skip

    write_atomically(path, write)
