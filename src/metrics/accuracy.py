"""Accuracies of a classifier with their 95% intervals."""

from collections.abc import Sequence

from torch import Tensor

from src.metrics.intervals import wilson


def accuracy(counts: Tensor, name: str = "acc") -> dict[str, float]:
    """Return the share of correct predictions as `name`, and its interval as name_low, name_high.

    Args:
        counts: (K, K), number of images by (true, predicted) class; at least one image.
        name: key of the result.
    """
    correct, n = int(counts.diag().sum()), int(counts.sum())
    return {name: correct / n, **interval(name, correct, n)}


def interval(name: str, correct: int, n: int) -> dict[str, float]:
    """Return Wilson's interval of the share `correct` / `n` as name_low and name_high."""
    low, high = wilson(correct, n)
    return {f"{name}_low": low, f"{name}_high": high}


def class_accuracies(counts: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Return the accuracy of each class by its name; a class without images has none.

    Args:
        counts: (K, K), number of images by (true, predicted) class.
        names: names of the K classes.
    """
    correct, images = counts.diag().tolist(), counts.sum(1).tolist()
    return {name: right / n for name, right, n in zip(names, correct, images, strict=True) if n}
