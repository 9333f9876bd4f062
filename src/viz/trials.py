"""The trials of a sweep: their results in order, and against each swept setting."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from src.core.files import write_atomically
from src.viz import axes, fonts
from src.viz.axes import MARGIN, Title

LOG_FROM = 9.0  # an axis is logarithmic if its largest number is this many times the smallest
PANEL = (250, 300)  # pixels of the plot of one setting with its words
HISTORY = (620, 300)
COLUMNS = 4  # plots side by side
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 10, 50  # pixels of a plot around its axes


class Trial(NamedTuple):
    """A trial: the jobs of a sweep that differ only in their seed.

    Attributes:
        number: of the trial, counted from 0.
        settings: the text of each swept setting, by name.
        results: the objective for each seed; empty unless all of its jobs have finished.
        state: `finished`, `pruned`, ...
    """

    number: int
    settings: dict[str, str]
    results: list[float]
    state: str

    @property
    def mean(self) -> float:
        """The mean of the results."""
        return math.fsum(self.results) / len(self.results)


def save_history(trials: Sequence[Trial], title: str, is_lower_better: bool, path: Path) -> None:
    """Write a PNG with the result of each trial, and the best so far.

    Args:
        trials: in their order, at least one of them with results.
        title: what the results are.
        is_lower_better: whether the best is the smallest.
        path: the picture.
    """
    finished = [trial for trial in trials if trial.results]
    best: Callable[..., float] = min if is_lower_better else max
    so_far = [best(t.mean for t in finished[: i + 1]) for i in range(len(finished))]

    def draw(figure: Any, top: int) -> None:
        axis = _axis(figure, (LEFT, top), HISTORY)
        _dots(axis, [float(trial.number) for trial in finished], finished)
        numbers = [trial.number for trial in finished]
        axis.plot(numbers, so_far, color="C3", drawstyle="steps-post", label="best so far")
        _scale(axis, finished)
        for marker, state in zip("xv^s", _unfinished(trials), strict=False):
            places = [trial.number for trial in trials if trial.state == state]
            line = [axis.get_ylim()[0]] * len(places)
            axis.plot(places, line, marker, color="0.5", clip_on=False, label=state)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_xlim(min(t.number for t in trials) - 0.5, max(t.number for t in trials) + 0.5)
        axis.set_xlabel("trial")
        axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)

    _save(title, (HISTORY[0] + 110, HISTORY[1]), [], draw, path)


def save_slices(trials: Sequence[Trial], title: str, path: Path) -> None:
    """Write a PNG with a plot for each setting: the results of all trials against its values.

    Numbers are on a linear or a logarithmic axis, words side by side.

    Args:
        trials: at least one of them with results.
        title: what the results are.
        path: the picture.
    """
    finished = [trial for trial in trials if trial.results]
    names = [name for name in finished[0].settings if len({t.settings[name] for t in trials}) > 1]
    columns = min(COLUMNS, max(1, len(names)))
    texts = [*names, *(text for trial in finished for text in trial.settings.values())]

    def draw(figure: Any, top: int) -> None:
        for k, name in enumerate(names):
            row, column = divmod(k, columns)
            corner = (column * PANEL[0] + LEFT, top + row * PANEL[1])
            axis = _axis(figure, corner, PANEL)
            values = [trial.settings[name] for trial in finished]
            numbers = [number_of(value) for value in values]
            known = [number for number in numbers if number is not None]
            if len(known) == len(numbers):
                _dots(axis, known, finished)
                if is_wide(known):
                    axes.use_log_scale(axis, "x")
                else:
                    axis.locator_params(axis="x", nbins=4)
            else:
                choices = list(dict.fromkeys(values))
                _dots(axis, [float(choices.index(value)) for value in values], finished)
                short = [fonts.drawable(choice)[:14] for choice in choices]
                axis.set_xticks(range(len(choices)), short, rotation=30 if len(short) > 3 else 0)
                axis.set_xlim(-0.5, len(choices) - 0.5)
            _scale(axis, finished)
            axis.set_xlabel(fonts.drawable(name))

    size = (columns * PANEL[0], math.ceil(len(names) / columns) * PANEL[1])
    _save(title, size, texts, draw, path)


def is_wide(numbers: Sequence[float]) -> bool:
    """Return whether a logarithmic axis shows these numbers better."""
    return bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) > LOG_FROM


def number_of(text: str) -> float | None:
    """Parse `text` as a finite number; return None if it is not one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _unfinished(trials: Sequence[Trial]) -> list[str]:
    return list(dict.fromkeys(trial.state for trial in trials if not trial.results))


def _axis(figure: Any, corner: tuple[int, int], size: tuple[int, int]) -> Any:
    width, height = size[0] - LEFT - RIGHT, size[1] - TOP - BOTTOM
    axis = axes.place(figure, corner[0], corner[1] + TOP, width, height)
    axis.grid(alpha=0.3)
    return axis


def _dots(axis: Any, x: list[float], trials: Sequence[Trial]) -> None:
    """Draw a large dot for the mean of each trial, and small ones for several seeds."""
    several = [(place, t.results) for place, t in zip(x, trials, strict=True) if len(t.results) > 1]
    seeds = [(place, result) for place, results in several for result in results]
    if seeds:
        axis.plot(*zip(*seeds, strict=True), "o", color="C0", alpha=0.4, ms=4, label="each seed")
    label = "mean over seeds" if seeds else "finished"
    axis.plot(x, [trial.mean for trial in trials], "o", color="C0", ms=7, label=label)
    axis.margins(x=0.08)


def _scale(axis: Any, trials: Sequence[Trial]) -> None:
    if is_wide([value for trial in trials for value in trial.results]):
        axes.use_log_scale(axis, "y")


def _save(
    title: str,
    size: tuple[int, int],
    texts: Sequence[str],
    draw: Callable[[Any, int], None],
    path: Path,
) -> None:
    head = Title(title, size[0])
    top = head.height + MARGIN

    def paint(figure: Any) -> None:
        head.draw(figure)
        draw(figure, top)

    content = axes.draw_file(size[0], top + size[1], [title, *texts], paint)
    write_atomically(path, lambda to: to.write_bytes(content))
