"""How far to trust a classifier: suspicious labels, and photos unlike all that it learned from."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBORS = 3  # the distance to this nearest training photo decides; fewer if there are fewer
ACCEPTED = 0.95  # share of held-out photos of the own classes that count as familiar


class Suspicion(NamedTuple):
    """A photo whose label may be wrong.

    Attributes:
        photo: its index.
        predicted: the class that nets predict that were not trained on it.
        probability: of that class.
        given: probability of the label.
    """

    photo: int
    predicted: int
    probability: float
    given: float


def suspicious_labels(probabilities: Tensor, labels: Tensor) -> list[Suspicion]:
    """Return the photos whose prediction contradicts the label with confidence, worst first.

    A prediction is confident if its probability is at least the mean probability that photos of
    that class get for it (Northcutt 2021, confident learning). The order is by
    p(predicted) - p(label).

    Args:
        probabilities: (N, K), out of fold; NaN for photos that were never held out.
        labels: (N,).
    """
    known = ~probabilities[:, 0].isnan()
    own = probabilities.gather(1, labels[:, None])[:, 0]
    found = []
    for index in known.nonzero().flatten().tolist():
        row, label = probabilities[index], int(labels[index])
        predicted = int(row.argmax())
        of_class = own[known & (labels == predicted)]
        usual = float(of_class.mean()) if len(of_class) else 1.0
        if predicted != label and float(row[predicted]) >= usual:
            found.append(Suspicion(index, predicted, float(row[predicted]), float(row[label])))
    return sorted(found, key=lambda one: one.given - one.probability)


class Familiar(NamedTuple):
    """What tells photos of the known classes from others (Sun 2022, deep nearest neighbors).

    Attributes:
        features: of the training photos, (N, D), each of length 1.
        threshold: a photo at a larger distance is unlike all of them.
    """

    features: Tensor
    threshold: float

    def distance(self, features: Tensor) -> Tensor:
        """Return the distance (M,) of photos with `features` (M, D) from the training photos."""
        return neighbor_distance(F.normalize(features, dim=1), self.features)


def neighbor_distance(queries: Tensor, known: Tensor) -> Tensor:
    """Return the distance (M,) of each query (M, D) to its nearest known photos (N, D).

    It is the mean Euclidean distance of the nearest `NEIGHBORS`.
    """
    nearest = min(NEIGHBORS, len(known))
    return torch.cdist(queries, known).topk(nearest, 1, largest=False).values.mean(1)


def learn_familiar(features: Tensor, folds: list[tuple[Tensor, Tensor]]) -> Familiar:
    """Choose the threshold so that `ACCEPTED` of the held-out photos are below it.

    Args:
        features: (N, D).
        folds: (indices of training photos, indices of the photos held out).
    """
    unit = F.normalize(features, dim=1)
    distances = [neighbor_distance(unit[out], unit[train]) for train, out in folds if len(out)]
    if not distances:
        return Familiar(unit, float("inf"))
    return Familiar(unit, float(torch.cat(distances).double().quantile(ACCEPTED)))
