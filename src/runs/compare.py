"""Runs side by side: settings that differ, final metrics, and curves."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from src.metrics.directions import direction
from src.runs.differences import differences, short_names
from src.runs.info import STAGES, RunInfo
from src.runs.seeds import Group, estimate, interval_note
from src.runs.table import lines
from src.runs.verdict import verdict
from src.viz.curves import Curve, sparkline

WIDTH = 40  # characters of a sparkline
SCREEN = 160  # characters of a line where the output is no terminal
SEEDS_OF_BAND = 4  # fewer seeds are drawn as lines: their interval would fill the plot
Curves = dict[str, list[Curve]]  # metric -> the curve of each group; empty without values


def letters(groups: Sequence[Group]) -> list[str]:
    """Return a short name for each group: A, B, ... or numbers if there are more than 26."""
    if len(groups) > 26:
        return [str(number) for number in range(1, len(groups) + 1)]
    return [chr(ord("A") + number) for number in range(len(groups))]


def metric_names(groups: Sequence[Group], asked: Sequence[str] | None) -> list[str]:
    """Return the final metrics to compare: those asked for, else those that matter."""
    if asked is not None:
        return list(asked)
    names: dict[str, None] = {}
    for group in groups:
        names |= dict.fromkeys(group.first.key_metrics())
    return list(names)


def metric_rows(groups: Sequence[Group], names: Sequence[str]) -> list[list[str]]:
    """Return a row per metric: name, direction, the value of each group; the best has a `*`."""
    rows = []
    for name in names:
        found = [group.estimate(name) for group in groups]
        if not any(found):  # it has a curve only
            continue
        better = direction(name)
        means = [one.mean for one in found if one is not None]
        best = None
        if better is not None and len(means) > 1:
            best = min(means) if better == "min" else max(means)
        words = {"min": "lower is better", "max": "higher is better", None: ""}[better]
        cells = [
            "" if one is None else f"{one.full}{' *' if one.mean == best else ''}" for one in found
        ]
        rows.append([name, words, *cells])
    return rows


def curve_names(groups: Sequence[Group], asked: Sequence[str] | None) -> list[str]:
    """Return the metrics to draw: those asked for, else key metrics of validation, and losses."""
    present = dict.fromkeys(name for group in groups for name in sorted(group.first.newest))
    if asked is not None:
        return [name for name in asked if name in present]
    keys = {m.rpartition("/")[2] for group in groups for m in group.first.key_metrics()}
    chosen = [name for stage in STAGES[1:] for name in present if _is_shown(name, stage, keys)]
    return chosen[:8]


def _is_shown(name: str, stage: str, keys: set[str]) -> bool:
    start, _, last = name.rpartition("/")
    return start == stage and (last in keys or (stage == "train" and last.endswith("loss")))


def curves(groups: Sequence[Group], names: Sequence[str]) -> Curves:
    """Return the curves of each metric, one for each group; those of one point are left out."""
    found = {name: [curve(group.members, name) for group in groups] for name in names}
    return {name: drawn for name, drawn in found.items() if any(one.x for one in drawn)}


def curve(members: Sequence[RunInfo], name: str) -> Curve:
    """Return the mean over seeds where all have a value: with their interval, or the seeds."""
    series = [dict(run.curve(name)) for run in members]
    common = sorted(set(series[0]).intersection(*series[1:]))
    if len(common) < 2:
        return Curve([], [], [])
    points = [estimate([values[x] for values in series]) for x in common]
    has_band = len(members) >= SEEDS_OF_BAND
    return Curve(
        common,
        [one.mean for one in points],
        [one.half or 0.0 if has_band else 0.0 for one in points],
        [[values[x] for x in common] for values in series if not has_band and len(series) > 1],
    )


def curve_note(drawn: Curves) -> str:
    """Return what lines and bands of the picture mean; empty without means."""
    found = [one for curves in drawn.values() for one in curves]
    parts = []
    if any(one.seeds for one in found):
        parts.append("thin lines: single seeds")
    if any(any(one.half) for one in found):
        parts.append("band: Student's t 95% interval of the mean over seeds")
    return "; ".join(["thick line: mean over seeds", *parts]) if parts else ""


def report(groups: Sequence[Group], metrics: Sequence[str], drawn: Curves) -> str:
    """Return the comparison as text: the groups, differences, metrics and curves."""
    short = letters(groups)
    names = [f"{a} {name}" for a, name in zip(short, short_names(groups), strict=True)]
    parts = [lines(["", "state", "folder"], [
        [name + group.size, ", ".join(dict.fromkeys(run.state for run in group.members)),
         group.folder]
        for name, group in zip(names, groups, strict=True)
    ])]  # fmt: skip
    rows = [[name, *values] for name, values in differences(groups)]
    if rows:
        parts.append(_table(["settings that differ"], names, short, rows))
    elif len(groups) > 1:
        parts.append(["the settings are equal"])
    if values := metric_rows(groups, metrics):
        table = _table(["metric", ""], names, short, values)
        estimates = [one for name in metrics for g in groups if (one := g.estimate(name))]
        parts.append([*table, *filter(None, [interval_note(estimates)])])
    for name, found in drawn.items():
        low = min((min(curve.y) for curve in found if curve.y), default=0.0)
        high = max((max(curve.y) for curve in found if curve.y), default=0.0)
        cells = [
            [letter, sparkline(curve.y, low, high, WIDTH), f"{curve.y[-1]:.4g}"]
            for letter, curve in zip(short, found, strict=True)
            if curve.y
        ]
        parts.append([f"{name} from {low:.4g} to {high:.4g}", *lines(["", "", "last"], cells)[1:]])
    named = [
        f"{letter} ({name.removeprefix(f'{letter} ')})"
        for letter, name in zip(short, names, strict=True)
    ]
    parts.append([sentence] if (sentence := verdict(groups, named, metrics)) else [])
    return "\n\n".join("\n".join(part) for part in parts if part)


def draw(groups: Sequence[Group], drawn: Curves, path: Path) -> None:
    """Draw the curves into a picture."""
    from src.viz.curves import save_curves

    labels = [
        f"{letter}  {name}{group.size}"
        for letter, name, group in zip(letters(groups), short_names(groups), groups, strict=True)
    ]
    save_curves(drawn, labels, path, curve_note(drawn))


def _table(
    start: Sequence[str], names: Sequence[str], short: Sequence[str], rows: Sequence[Sequence[str]]
) -> list[str]:
    """Return the lines of a table whose columns have names, or letters if it would be too wide."""
    found = lines([*start, *names], rows)
    is_wide = max(map(len, found)) > shutil.get_terminal_size((SCREEN, 0)).columns
    return lines([*start, *short], rows) if is_wide else found
