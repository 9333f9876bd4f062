"""One run as the tables show it: read from its folder, without importing torch."""

import contextlib
import csv
import io
import json
import math
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from src.config.signatures import class_attribute
from src.core import run_record, run_search, runs
from src.core.tree import leaves

STAGES = ("test", "val", "train")
TAIL = 2**16  # bytes at the end of metrics.csv that hold the newest values
FIELDS = ("run", "state", "model", "data", "seconds", "date", "commit", "name", "tags", "note")


class RunInfo:
    """A run, with the values that tables, conditions and comparisons use.

    Args:
        folder: the run.
        top: the run is named by its path below this folder.

    Attributes:
        fields: the values of FIELDS; `error`, if it failed; `device`.
    """

    def __init__(self, folder: Path, top: Path | None = None) -> None:
        self.folder = folder
        self.record = run_record.read(folder)
        self.state = run_record.state_of(folder, self.record)
        is_below = top is not None and folder != top and folder.is_relative_to(top)
        self.label = str(folder.relative_to(top) if top is not None and is_below else folder)
        self.fields = self._fields()

    def _fields(self) -> dict[str, Any]:
        last = self.record["sessions"][-1] if self.record else {}
        commit = str(last.get("commit") or "")[:9]
        target = str(self.settings.get("model._target_", ""))
        date = datetime.fromtimestamp(self.started)
        return {
            "run": self.label,
            "state": self.state,
            "model": self.choices.get("model", target.rpartition(".")[2].lower()),
            "data": self.settings.get("data.name"),
            "seconds": self._seconds(),
            "date": date.strftime("%Y-%m-%d %H:%M"),
            "commit": commit + ("+" if commit and last.get("diff") != "" else ""),
            "name": self.settings.get("name"),
            "tags": list(self.settings.get("tags") or []),
            "note": self.settings.get("note"),
            "error": last.get("error"),
            "device": last.get("device"),
        }

    @cached_property
    def started(self) -> float:
        """When the first session started, in seconds since 1970."""
        try:
            return datetime.fromisoformat(self.record["sessions"][0]["started"]).timestamp()
        except (LookupError, TypeError, ValueError):
            return run_search.started(self.folder)

    @property
    def choices(self) -> dict[str, str]:
        """The choice of each config group."""
        return self.record.get("choices", {})

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings by dotted name."""
        plain = self.record.get("settings") or _read_yaml(runs.config_path(self.folder))
        return dict(leaves(plain))

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The final metrics of a finished run; the newest ones of another."""
        final: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            final = json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))
        if self.state in (run_record.FINISHED, run_record.PRUNED) and final:
            return final
        return {**final, **self.newest}

    @cached_property
    def newest(self) -> dict[str, float]:
        """The newest value of each column of metrics.csv."""
        rows = _rows(self.folder, TAIL)
        return {name: value for row in rows for name, value in row}  # later rows win

    def value(self, key: str) -> Any:
        """Return a column, the choice of a group, a metric or a setting; None if there is none."""
        for values in (self.fields, self.choices, self.metrics, self.settings):
            if key in values:
                return values[key]
        return self.newest.get(key) if key.startswith("train/") else None

    def keys(self) -> set[str]:
        """Return all names that `value` knows."""
        return {*self.fields, *self.choices, *self.metrics, *self.settings, *self.newest}

    def key_metrics(self) -> list[str]:
        """Return the metrics that matter for this model, each of its latest stage."""
        target = str(self.settings.get("model._target_"))
        names = class_attribute(target, "key_metrics") or () if target.startswith("src.") else ()
        found = [
            next((m for stage in STAGES if (m := f"{stage}/{name}") in self.metrics), None)
            for name in names
        ]
        return [metric for metric in found if metric]

    def curve(self, metric: str) -> list[tuple[float, float]]:
        """Return (batches, value) of a metric, from metrics.csv."""
        points = []
        for row in _rows(self.folder, None):
            values = dict(row)
            if metric in values and math.isfinite(values[metric]):
                points.append((values["batches"], values[metric]))
        return points

    def _seconds(self) -> float | None:
        """Return the duration of all sessions; for a running one, until now."""
        sessions = self.record.get("sessions", [])
        spent = [one["seconds"] for one in sessions if isinstance(one.get("seconds"), float | int)]
        if sessions and self.state == run_record.RUNNING:
            spent.append(datetime.now().timestamp() - run_search.started(self.folder))
        known = sum(spent) if spent else self.metrics.get("seconds")
        return round(known, 1) if known is not None else None


def _rows(folder: Path, tail: int | None) -> Iterator[list[tuple[str, float]]]:
    """Yield the rows of metrics.csv as (column, value), without empty cells.

    Args:
        tail: read only the last bytes; None: all.
    """
    try:
        with (folder / "metrics.csv").open("rb") as file:
            header = next(csv.reader([file.readline().decode()]), [])
            start = file.tell()
            size = file.seek(0, io.SEEK_END)
            skips = tail is not None and size - start > tail
            file.seek(size - tail if skips and tail else start)
            lines = file.read().decode(errors="replace").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for row in csv.reader(lines[1:] if skips else lines):
        try:
            yield [(name, float(cell)) for name, cell in zip(header, row, strict=True) if cell]
        except ValueError:  # a damaged line
            continue


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return a config as it is written, with its interpolations; {} if it cannot be read."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        plain = yaml.load(path.read_text(encoding="utf-8"), loader)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return plain if isinstance(plain, dict) else {}
