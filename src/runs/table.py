"""Tables of runs: for the terminal, and as CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.core.files import write_atomically
from src.runs.info import FIELDS, RunInfo
from src.runs.seeds import Group

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
) -> str:
    """Return a table with one line per group.

    Args:
        metrics: columns for these metrics; None: one column with those that matter for each model.
        more: names of further columns.
        names: a name for each group, which then has its folder in the last column; None: a run is
            named by its path.
    """
    own = list(metrics) if metrics is not None else ["metrics"]
    header = [*FIELDS[:4], *own, *(name for name in more if name not in own), *FIELDS[4:]]
    rows = [[cell(group, name) for name in header] for group in groups]
    if names is not None:
        header.append("folder")
        rows = [
            [name + group.size, *row[1:], group.folder]
            for name, group, row in zip(names, groups, rows, strict=True)
        ]
    return "\n".join(lines(header, rows))


def cell(group: Group, column: str) -> str:
    """Return the text of one cell."""
    run = group.first
    if column == "run":
        return run.label
    if column == "metrics":
        names = run.key_metrics()[:SHOWN_METRICS]
        return "  ".join(f"{name} {group.estimate(name)}" for name in names if group.estimate(name))
    if column == "seconds":
        spent = [one.fields["seconds"] for one in group.members]
        return "" if None in spent else f"{sum(spent):,.0f}"
    values = {shown(one.value(column)): None for one in group.members}
    estimate = group.estimate(column)
    return str(estimate) if estimate and len(values) > 1 else ", ".join(values)


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
