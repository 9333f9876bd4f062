"""Plots of a sweep: history, slices and importance as PNG, and Optuna's interactive ones."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.config.objective import Objective
from src.core import run_record
from src.core.errors import first_line
from src.core.files import write_atomically
from src.core.packages import is_installed
from src.metrics.key_metrics import WORDS
from src.sweep.names import short_keys, short_value
from src.sweep.results import Point
from src.viz.trials import Trial, is_wide, number_of, save_history, save_slices

PAGE = ("plot_optimization_history", "plot_param_importances", "plot_slice")  # Optuna's functions


def draw(points: Sequence[Point], wanted: list[Objective], folder: Path) -> list[Path]:
    """Draw history.png and slices.png, with Optuna importance.png and plots.html; return the files.

    The importance needs two settings and as many finished trials as Optuna asks for.
    """
    if not points[0].values:  # only seeds differ
        return []
    trials = trials_of(points)
    metric, mode = wanted[0]
    title = f"{metric} ({WORDS[mode]})"
    paths = [folder / "history.png", folder / "slices.png"]
    save_history(trials, title, mode == "min", paths[0])
    save_slices(trials, title, paths[1])
    if not is_installed("optuna"):
        print("importance.png and plots.html are left out: they need pip install '.[optuna]'")
        return paths
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = study_of(points, wanted)
    names: dict[str, Any] = {"target_name": metric}
    if len(wanted) > 1:
        names["target"] = lambda trial: trial.values[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return paths + _importance(study, names, folder) + _page(study, names, folder, trials)


def _importance(study: Any, names: dict[str, Any], folder: Path) -> list[Path]:
    """Draw the part of the objective's variance that each setting explains."""
    import optuna

    from src.viz.charts import draw_bars  # imports torch
    from src.viz.grids import save_png

    if len(study.trials[0].params) < 2:
        return []
    try:
        shares = optuna.importance.get_param_importances(study, target=names.get("target"))
    except (RuntimeError, ValueError) as error:  # too few trials, or all alike
        print(f"importance.png is left out: {first_line(error)}")
        return []
    title = f"importance for {names['target_name']} (fANOVA): part of its variance by setting"
    path = folder / "importance.png"
    save_png(draw_bars(list(shares.values()), title, list(shares), form=".2f"), path)
    return [path]


def _page(study: Any, names: dict[str, Any], folder: Path, trials: Sequence[Trial]) -> list[Path]:
    """Write Optuna's interactive plots, those that it can draw, into one file."""
    if not is_installed("plotly"):
        return []
    import optuna

    pages = []
    for function in PAGE:
        try:
            pages.append(getattr(optuna.visualization, function)(study, **names))
        except (RuntimeError, ValueError):  # too few trials, or all alike
            continue
        if "importances" not in function and is_wide([y for t in trials for y in t.results]):
            pages[-1].update_yaxes(type="log")
    html = "\n".join(
        page.to_html(full_html=False, include_plotlyjs=number == 0)
        for number, page in enumerate(pages)
    )
    text = f'<!doctype html><meta charset="utf-8"><title>{folder.name}</title>\n{html}\n'
    path = folder / "plots.html"
    write_atomically(path, lambda to: to.write_text(text, encoding="utf-8"))
    return [path]


def trials_of(points: Sequence[Point]) -> list[Trial]:
    """Return the points as trials, in the order of their jobs."""
    short = short_keys(points[0].values)
    trials = [
        Trial(
            point.rows[0].job.trial,
            {short[key]: short_value(point.values[key]) for key in short},
            [row.result.values[0] for row in point.rows if row.result.values]
            if point.estimates
            else [],
            point.state,
        )
        for point in points
    ]
    return sorted(trials, key=lambda trial: trial.number)


def study_of(points: Sequence[Point], wanted: list[Objective]) -> Any:
    """Return a study in memory whose trials are the points, in the order of their jobs."""
    import optuna

    short = short_keys(points[0].values)
    texts = [{key: p.values[key].strip("'\"") for key in short} for p in points]
    kinds = {key: _distribution([values[key] for values in texts]) for key in short}
    directions: list[Any] = [f"{mode}imize" for _, mode in wanted]
    study = optuna.create_study(directions=directions)
    pairs = zip(points, texts, strict=True)
    for point, values in sorted(pairs, key=lambda pair: pair[0].rows[0].job.trial):
        numbers = [one.mean for one in point.estimates]
        failed = optuna.trial.TrialState.PRUNED
        if run_record.PRUNED not in point.state:
            failed = optuna.trial.TrialState.FAIL
        study.add_trial(
            optuna.create_trial(
                params={short[k]: kinds[k].to_external_repr(_read(values[k], kinds[k]))
                        for k in short},
                distributions={short[key]: kind for key, kind in kinds.items()},
                values=numbers or None,
                state=optuna.trial.TrialState.COMPLETE if numbers else failed,
            )
        )  # fmt: skip
    return study


def _distribution(texts: list[str]) -> Any:
    """Return a distribution that has all these values; it is logarithmic if they differ widely."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    numbers = [number_of(text) for text in texts]
    if any(number is None for number in numbers) or len(set(texts)) == 1:
        return CategoricalDistribution(tuple(dict.fromkeys(texts)))
    known = [number for number in numbers if number is not None]
    return FloatDistribution(min(known), max(known), log=is_wide(known))


def _read(text: str, kind: Any) -> float:
    """Return a value as Optuna stores it."""
    number = number_of(text)
    return float(kind.to_internal_repr(text if hasattr(kind, "choices") else number))
