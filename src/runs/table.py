"""Tables of runs: for the terminal, and as CSV."""

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.core.files import write_atomically
from src.runs.info import FIELDS, RunInfo
from src.runs.seeds import Group, estimate, interval_note

SHOWN_METRICS = 2  # columns for the key metrics of each model


def lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table with aligned columns; one whose cells are all empty is left out.

    Numbers are right-aligned.
    """
    columns = [column for column in zip(header, *rows, strict=True) if any(column[1:])]
    texts = []
    for column in columns:
        width, right = max(map(len, column)), all(_is_number(cell) for cell in column[1:] if cell)
        texts.append([cell.rjust(width) if right else cell.ljust(width) for cell in column])
    return ["  ".join(row).rstrip() for row in zip(*texts, strict=True)]


def run_table(
    groups: Sequence[Group],
    metrics: Sequence[str] | None,
    more: Sequence[str],
    names: Sequence[str] | None = None,
    differs: Sequence[str] | None = None,
) -> str:
    """Return a table with one line per group.

    Single runs have the intervals of their metrics if the terminal is wide enough.

    Args:
        metrics: columns for these metrics; None: one column with those that matter for each model.
        more: names of further columns.
        names: a name for each group, which then has its folder in the last column; None: a run is
            named by its path.
        differs: a text for each group, in a column of its own; None: no such column.
    """
    own = list(metrics) if metrics is not None else ["metrics"]
    header = list(dict.fromkeys([*FIELDS[:4], *own, *more, *FIELDS[4:]]))
    given = {"differs": differs} if differs is not None else {}
    if names is not None:
        folders = [group.folder for group in groups]
        labels = [name + group.size for name, group in zip(names, groups, strict=True)]
        given |= {"run": labels, "folder": folders}
        header.append("folder")
    if differs is not None:
        header.insert(4, "differs")
    width, table, has_bounds = shutil.get_terminal_size().columns, [], False
    for has_bounds in (True, False):
        rows = [
            [given[n][k] if n in given else cell(group, n, header, has_bounds) for n in header]
            for k, group in enumerate(groups)
        ]
        table = lines(header, rows)
        if max(map(len, table)) <= width:
            break
    found = [
        one
        for group in groups
        for name in (*header, *_key_metrics(group, header))
        if name not in group.first.settings and (one := group.estimate(name))
    ]
    note = interval_note([one if has_bounds else one._replace(bounds=None) for one in found])
    return "\n".join([*table, *filter(None, [note])])


def cell(group: Group, column: str, header: Sequence[str] = (), has_bounds: bool = False) -> str:
    """Return the text of one cell.

    Args:
        group: the runs of the line.
        column: a name of the header.
        header: names of all columns; metrics that have their own are not repeated in `metrics`.
        has_bounds: whether the metrics of a single run have their intervals.
    """
    run = group.first
    if column == "run":
        return run.label
    if column == "metrics":
        names = _key_metrics(group, header)
        return "  ".join(f"{name} {_metric(group, name, has_bounds)}" for name in names)
    if column == "seconds":
        spent = [one.fields["seconds"] for one in group.members]
        return "" if None in spent else estimate(spent).rounded
    values = [shown(one.value(column)) for one in group.members]
    distinct, known = list(dict.fromkeys(values)), sum(value != "" for value in values)
    is_mean = (has_bounds or len(distinct) > 1) and column not in run.settings
    if is_mean and (text := _metric(group, column, has_bounds)):
        return text
    text = ", ".join(filter(None, distinct))
    return f"{text} ({known} of {len(values)})" if 0 < known < len(values) else text


def _key_metrics(group: Group, header: Sequence[str]) -> list[str]:
    """Return the metrics in the column `metrics`: those that matter and have no own column."""
    if "metrics" not in header:
        return []
    names = group.first.key_metrics()[:SHOWN_METRICS]
    return [name for name in names if name not in header and group.estimate(name)]


def _metric(group: Group, name: str, has_bounds: bool) -> str:
    found = group.estimate(name)
    if found is None:
        return ""
    return found.full if has_bounds and found.bounds is not None else str(found)


def shown(value: Any) -> str:
    """Return a value as a table shows it; empty for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(shown, value)) if isinstance(value, list) else str(value)


def write_csv(found: Sequence[RunInfo], path: Path) -> None:
    """Write a row per run: its columns, all its metrics, all its settings."""
    rows = [
        {**run.settings, **run.metrics, **run.fields, "folder": str(run.folder)} for run in found
    ]
    names = {name: None for run in found for name in sorted(run.metrics)}
    names |= {name: None for run in found for name in run.settings}
    header = ["folder", *(found[0].fields if found else FIELDS)]
    header += [name for name in names if name not in header]

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, header, restval="")
            writer.writeheader()
            for row in rows:
                writer.writerow({k: _plain(v) for k, v in row.items()})

    write_atomically(path, write)


def _plain(value: Any) -> Any:
    """Return a value as CSV holds it: numbers in full precision."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else shown(value)


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "", 1).lstrip("-").isdigit()
