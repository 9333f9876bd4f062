"""Plots of a sweep with Optuna's functions: history, importance and slices."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.config.objective import Objective
from src.core import run_record
from src.core.errors import first_line
from src.core.files import write_atomically
from src.core.packages import is_installed
from src.sweep.names import short_keys
from src.sweep.results import Point
from src.viz.axes import use_log_scale

PLOTS = {  # file -> Optuna's function
    "history": "plot_optimization_history",
    "importance": "plot_param_importances",
    "slices": "plot_slice",
}

LOG_FROM = 9.0  # the axis of numbers whose largest is this many times the smallest is logarithmic


def draw(points: Sequence[Point], wanted: list[Objective], folder: Path) -> list[Path]:
    """Draw the plots as PNG, and all of them on one page, plots.html; return the files.

    A plot that needs more finished jobs than there are is left out.
    """
    if not points[0].values:  # only seeds differ
        return []
    if not is_installed("optuna"):
        print("plots are left out: they need Optuna: pip install '.[optuna]'")
        return []
    import matplotlib
    import numpy as np
    import optuna

    matplotlib.use("Agg")  # draws without a display
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = study_of(points, wanted)
    names: dict[str, Any] = {"target_name": wanted[0].metric}
    if len(wanted) > 1:
        names["target"] = lambda trial: trial.values[0]
    objectives = [point.estimates[0].mean for point in points if point.estimates]
    paths, pages = [], []
    for name, function in PLOTS.items():
        logarithmic = name != "importance" and _is_wide(objectives)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                drawn = getattr(optuna.visualization.matplotlib, function)(study, **names)
                for axis in np.ravel(drawn):
                    if logarithmic:
                        use_log_scale(axis, "y")
                    if axis.get_xscale() == "log":
                        use_log_scale(axis, "x")
                paths.append(_png(np.ravel(drawn)[0].figure, folder / f"{name}.png"))
                if is_installed("plotly"):
                    pages.append(getattr(optuna.visualization, function)(study, **names))
                    if logarithmic:
                        pages[-1].update_yaxes(type="log")
            except Exception as error:  # too few trials, or all alike
                print(f"plot {name} is left out: {first_line(error)}")
    if pages:
        html = "\n".join(
            page.to_html(full_html=False, include_plotlyjs=number == 0)
            for number, page in enumerate(pages)
        )
        text = f'<!doctype html><meta charset="utf-8"><title>{folder.name}</title>\n{html}\n'
        paths.append(folder / "plots.html")
        write_atomically(paths[-1], lambda to: to.write_text(text, encoding="utf-8"))
    return paths


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

    numbers = [_number(text) for text in texts]
    if any(number is None for number in numbers) or len(set(texts)) == 1:
        return CategoricalDistribution(tuple(dict.fromkeys(texts)))
    known = [number for number in numbers if number is not None]
    return FloatDistribution(min(known), max(known), log=_is_wide(known))


def _is_wide(numbers: list[float]) -> bool:
    """Return whether a logarithmic axis shows these numbers better."""
    return bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) > LOG_FROM


def _read(text: str, kind: Any) -> float:
    """Return a value as Optuna stores it."""
    number = _number(text)
    return float(kind.to_internal_repr(text if hasattr(kind, "choices") else number))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _png(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    try:
        write_atomically(
            path, lambda to: figure.savefig(to, dpi=110, format="png", bbox_inches="tight")
        )
    finally:
        pyplot.close(figure)
    return path
