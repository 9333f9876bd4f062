"""Choose what a benchmark measures, and write its results as CSV files and tables."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from src.core.errors import UserError, near
from src.core.files import write_atomically
from src.core.provenance import facts

COLUMNS = ("run", "seed", "metric", "value", "commit", "machine", "command")  # as in results/*.csv


class Row(NamedTuple):
    """A line of a CSV file: one value.

    Attributes:
        run: what was measured.
        seed: number of the round, from 1.
        metric: name of the value.
        value: the value.
        commit: first seven digits, empty outside a git repository.
        machine: name of the machine.
        command: the command that measures it.
    """

    run: str
    seed: int
    metric: str
    value: float
    commit: str
    machine: str
    command: str


def rows_of(
    run: str, values: Iterable[tuple[int, str, float]], machine: str, command: str
) -> list[Row]:
    """Return a line for each of `values`: (round, metric, value)."""
    commit = str(facts().get("commit") or "")[:7]
    return [Row(run, k, metric, round(x, 3), commit, machine, command) for k, metric, x in values]


def save_csv(rows: Sequence[Row], path: Path) -> None:
    """Write the lines below the names of their columns."""

    def write(to: Path) -> None:
        with to.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])

    write_atomically(path, write)


def save_table(header: Sequence[str], lines: Iterable[Sequence[str]], path: Path) -> None:
    """Write a table in Markdown."""
    cells = [header, ["---"] * len(header), *lines]
    text = "".join(f"| {' | '.join(line)} |\n" for line in cells)
    write_atomically(path, lambda to: to.write_text(text, encoding="utf-8"))


def chosen(setting: str, names: Sequence[str] | None, known: Iterable[str]) -> list[str]:
    """Return `names`, each once; all of `known` if `names` is None.

    Raises:
        UserError: a name is not among `known`.
    """
    known = list(known)
    for name in names or ():
        if name not in known:
            raise UserError(f"{setting}={name}: one of {', '.join(known)}{near(name, known)}")
    return known if names is None else list(dict.fromkeys(names))


def shown(overrides: Iterable[str], scratch: Path) -> str:
    """Return the command of src.bench with `overrides`, without the path of a temporary folder."""
    return "python -m src.bench " + " ".join(o.replace(str(scratch), "MADE_UP") for o in overrides)
