"""Calibration of a classifier's probabilities: the temperature, and the expected error."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_RANGE = (-3.0, 3.0)  # the natural logarithm of the temperature lies in this range


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the T > 0 for which softmax(logits / T) has the smallest cross-entropy (Guo 2017).

    Each label counts as 1 - 1 / (N + 2), and the rest goes to the other classes (Platt 1999), so
    that a few images, all classified correctly, do not make the network overconfident.

    Args:
        logits: (N, K), of images that the net was not trained on; K is at least 2.
        labels: (N,).
    """
    from scipy.optimize import minimize_scalar

    n, k = logits.shape
    smoothing = k / ((n + 2) * (k - 1))

    def loss(log_t: float) -> float:
        scaled = logits.double() * math.exp(-log_t)
        return float(F.cross_entropy(scaled, labels, label_smoothing=smoothing))

    return math.exp(minimize_scalar(loss, bounds=LOG_RANGE, method="bounded").x)


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over bins (Guo 2017, eq. 5).

    Args:
        probabilities: (N, K), rows sum to 1.
        labels: (N,).
        bins: of equal width in (0, 1].
    """
    confidence, predicted = probabilities.double().max(1)
    correct = (predicted == labels).double()
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    zeros = torch.zeros(bins, dtype=torch.float64)
    gap = zeros.index_add(0, place, confidence - correct)
    return float(gap.abs().sum() / len(labels))
