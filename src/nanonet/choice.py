"""Choose among the candidates of a finished search, and say how good the choice is."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from src.metrics.intervals import wilson
from src.nanonet.search import Result

RESAMPLES = 1000  # bootstrap samples behind `honest_accuracy`


def choose(results: Sequence[Result], labels: Tensor) -> Result:
    """Return the finished candidate with the best accuracy; the first, the simplest, of equals.

    Without any photo that was held out, it is the first candidate.
    """
    finished = [result for result in results if result.ending is None]
    if all(result.logits.isnan().all() for result in finished):
        return finished[0]
    return max(finished, key=lambda result: float(result.correct(labels).nanmean()))


def accuracy_interval(correct: Tensor) -> tuple[float, float, float]:
    """Return the mean of shares (N,), NaN left out, and Wilson's 95% interval over the photos."""
    known = correct[~correct.isnan()]
    low, high = wilson(float(known.sum()), len(known))
    return float(known.mean()), low, high


def honest_accuracy(results: Sequence[Result], labels: Tensor, seed: int) -> float:
    """Return the accuracy of the chosen candidate, without the luck of having been chosen.

    The best of several candidates is partly the luckiest. So the photos are drawn with replacement
    many times: the candidate that is best on the drawn photos is measured on the others
    (Tsamardinos 2018, bootstrap bias-corrected cross-validation).

    Args:
        results: of the search; only finished candidates count.
        labels: (N,).
        seed: of the draws.
    """
    rows = [result.correct(labels) for result in results if result.ending is None]
    correct = torch.stack(rows).numpy()  # (candidates, N)
    correct = correct[:, ~np.isnan(correct).any(0)]
    n = correct.shape[1]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, n, n)
        others = np.setdiff1d(np.arange(n), drawn)
        if len(others):
            best = correct[:, drawn].mean(1).argmax()
            values.append(correct[best, others].mean())
    return float(np.mean(values)) if values else float(correct.mean(1).max())
