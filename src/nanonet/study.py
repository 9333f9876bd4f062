"""Examine a finished search: choose a candidate, estimate its accuracy, calibrate it, forecast."""

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from src.core.randomness import generator
from src.metrics.calibration import expected_calibration_error, fit_temperature
from src.metrics.intervals import wilson
from src.metrics.learning_curve import Forecast, forecast
from src.nanonet.choice import choose, honest_accuracy
from src.nanonet.folds import Fold
from src.nanonet.lab import Lab
from src.nanonet.recipes import OutOfTime, Recipe
from src.nanonet.search import Result
from src.nanonet.suspicion import Suspicion, suspicious_labels


class CurvePoint(NamedTuple):
    """Accuracy after training on at most `per_class` photos of each class; its 95% interval."""

    per_class: int
    accuracy: float
    low: float
    high: float


class Study(NamedTuple):
    """The findings.

    Attributes:
        chosen: the best finished candidate.
        accuracy, low, high: what to expect on new photos, corrected for the luck of the best
            candidate, and its 95% interval, which reaches up to that of the uncorrected accuracy;
            None if no photo could be held out.
        n: number of photos that this is based on.
        temperature: that calibrates its logits.
        ece: expected calibration error before and after; None without photos held out.
        probabilities: (N, K), calibrated and out of fold; NaN for photos that were never held out.
        suspicious: labels that may be wrong.
        curve_of: name of the recipe that the curve was measured with.
        curve_photos: that it was measured on; fewer than `n` if its time was up.
        curve: accuracy by the number of photos of each class.
        forecasts: for more photos than there are.
    """

    chosen: Result
    accuracy: float | None
    low: float | None
    high: float | None
    n: int
    temperature: float
    ece: tuple[float, float] | None
    probabilities: Tensor
    suspicious: list[Suspicion]
    curve_of: str
    curve_photos: int
    curve: list[CurvePoint]
    forecasts: list[Forecast]


def study(
    results: Sequence[Result],
    labels: Tensor,
    folds: Sequence[Fold],
    lab: Lab,
    seed: int,
    seconds: float,
) -> Study:
    """Choose a candidate and examine it.

    Args:
        results: of the search.
        labels: (N,).
        folds: of the search.
        lab: trains the recipe of the learning curve.
        seed: of everything random here.
        seconds: that the Trainer may take for the learning curve.
    """
    chosen = choose(results, labels)
    logits = chosen.mean_logits()
    known = ~logits[:, 0].isnan()
    n = int(known.sum())
    if n == 0:
        name, unknown = chosen.recipe.name, logits.double()
        return Study(chosen, None, None, None, 0, 1.0, None, unknown, [], name, 0, [], [])
    accuracy = honest_accuracy(results, labels, seed)
    low, _ = wilson(accuracy * n, n)
    _, high = wilson(float(chosen.correct(labels).nansum()), n)
    temperature = fit_temperature(logits[known], labels[known])
    probabilities = (logits.double() / temperature).softmax(1)
    ece = tuple(
        expected_calibration_error((logits[known].double() / t).softmax(1), labels[known])
        for t in (1.0, temperature)
    )
    recipe = _recipe_of_curve(chosen, results, labels)
    sizes, correct = learning_curve(recipe, labels, folds, lab, seed, seconds)
    points = []
    for size, row in zip(sizes, correct, strict=True):
        mean = float(row.mean())
        points.append(CurvePoint(size, mean, *wilson(mean * len(row), len(row))))
    largest = sizes[-1] if sizes else 1
    wanted = [2 * largest, 4 * largest]
    return Study(
        chosen,
        accuracy,
        low,
        high,
        n,
        temperature,
        (ece[0], ece[1]),
        probabilities,
        suspicious_labels(probabilities, labels),
        recipe.name,
        correct.shape[1],
        points,
        forecast(sizes, correct, wanted, seed),
    )


def _recipe_of_curve(chosen: Result, results: Sequence[Result], labels: Tensor) -> Recipe:
    """Return the chosen recipe if it is fast, else the best one that is."""
    fast = [result for result in results if result.recipe.fixed_features]
    finished = [result for result in fast if result.ending is None]
    if chosen.recipe.fixed_features or not finished:
        return chosen.recipe
    return choose(finished, labels).recipe


def learning_curve(
    recipe: Recipe,
    labels: Tensor,
    folds: Sequence[Fold],
    lab: Lab,
    seed: int,
    seconds: float = math.inf,
) -> tuple[list[int], np.ndarray]:
    """Train on at most 1, 2, 4, ... photos of each class; predict the photos of each fold.

    Args:
        recipe: to train.
        labels: (N,).
        folds: all repeats; each draws other photos.
        lab: trains it.
        seed: of the draws.
        seconds: that the Trainer may take; then only the folds that are done count.

    Returns:
        the S sizes (none if no fold was done), the last of which takes all that a fold leaves of
        the largest class, as the cross-validation does; and how often each of M photos was
        predicted right, (S, M), as a share.
    """
    classes = labels.unique().tolist()
    largest = max((int(labels[fold.train].bincount().max()) for fold in folds), default=0)
    sizes = [2**i for i in range(16) if 2**i < largest] + ([largest] if largest else [])
    right = torch.zeros(len(sizes), len(labels), dtype=torch.float64)
    times = torch.zeros(len(labels), dtype=torch.float64)
    end = time.monotonic() + seconds
    for fold in tqdm(folds, "learning curve", disable=None, leave=False):
        rows = []
        try:
            for size in sizes:
                order = generator(seed, "curve", fold.repeat, fold.number, size)
                train = fold.train[torch.randperm(len(fold.train), generator=order)]
                drawn = torch.cat([train[labels[train] == k][:size] for k in classes]).sort().values
                left = end - time.monotonic()
                rows.append(lab.predict(recipe, drawn, fold.held_out, left).logits.argmax(1))
        except OutOfTime:
            break
        right[:, fold.held_out] += (torch.stack(rows) == labels[fold.held_out]).double()
        times[fold.held_out] += 1
    seen = times > 0
    if not seen.any():
        return [], np.zeros((0, 0))
    return sizes, (right[:, seen] / times[seen]).numpy()
