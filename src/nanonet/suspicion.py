"""Labels that may be wrong."""

from typing import NamedTuple

from torch import Tensor


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
        probabilities_of_class = own[known & (labels == predicted)]
        typical = float(probabilities_of_class.mean()) if len(probabilities_of_class) else 1.0
        if predicted != label and float(row[predicted]) >= typical:
            found.append(Suspicion(index, predicted, float(row[predicted]), float(row[label])))
    return sorted(found, key=lambda one: one.given - one.probability)
