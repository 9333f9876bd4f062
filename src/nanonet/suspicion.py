"""Labels that may be wrong."""

from typing import NamedTuple

from torch import Tensor

UNLIKELY = 0.1  # a label with at least this probability is not suspicious, however many classes


class Suspicion(NamedTuple):
    """A photo whose label may be wrong.

    Attributes:
        photo: its index.
        predicted: the class predicted by networks that were not trained on the photo.
        probability: of that class.
        given: probability of the label.
    """

    photo: int
    predicted: int
    probability: float
    given: float


def suspicious_labels(probabilities: Tensor, labels: Tensor) -> list[Suspicion]:
    """Return the photos whose prediction contradicts a label less probable than by chance.

    The least probable label comes first (self-confidence: Northcutt 2021, Kuan 2022). With K
    classes, a label is suspicious below the probability 1 / K, or `UNLIKELY` if that is smaller.

    Args:
        probabilities: (N, K), out of fold; NaN for photos that were never held out.
        labels: (N,).
    """
    limit = min(UNLIKELY, 1 / probabilities.shape[1])
    found = []
    for index, (row, label) in enumerate(zip(probabilities, labels.tolist(), strict=True)):
        predicted, given = int(row.argmax()), float(row[label])
        if given < limit and predicted != label:  # NaN is below nothing
            found.append(Suspicion(index, predicted, float(row[predicted]), given))
    return sorted(found, key=lambda one: one.given)
