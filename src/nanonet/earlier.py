"""The summary of a finished search, for a later one with more photos of the same classes."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from src.core.errors import UserError, first_line
from src.core.files import write_atomically

FILE = "summary.json"


class Summary(NamedTuple):
    """A finished search.

    Attributes:
        class_names: one per label.
        digests: of the N photos.
        folds: of each repeat, the fold of each photo.
        correct: of each photo, how often networks not trained on it were right, as a share;
            NaN if it was never held out.
        name, overrides: the chosen recipe.
    """

    class_names: list[str]
    digests: list[str]
    folds: list[list[int]]
    correct: list[float]
    name: str
    overrides: list[str]

    def save(self, folder: Path) -> None:
        """Write the summary into the folder of the search."""
        text = json.dumps(self._asdict())
        write_atomically(folder / FILE, lambda path: path.write_text(text, encoding="utf-8"))

    @classmethod
    def load(cls, folder: Path, setting: str) -> "Summary":
        """Read the summary of the search in `folder`, which `setting` names.

        Raises:
            UserError: there is no finished search, or the file is damaged.
        """
        path = folder / FILE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise UserError(f"{setting}: {path} does not exist; give a finished search") from error
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{setting}: {path} is damaged ({first_line(error)})") from error

    def known_folds(self, repeat: int) -> dict[str, int]:
        """Return the fold of each photo in a repeat, by digest; {} if there was no such repeat."""
        if repeat >= len(self.folds):
            return {}
        return dict(zip(self.digests, self.folds[repeat], strict=True))


class Comparison(NamedTuple):
    """The accuracy on the same photos, in the same folds, before and after an update.

    Attributes:
        photos: number of photos in both searches.
        before, after: accuracies of the choices.
        low, high: 95% interval of after - before, over the photos.
    """

    photos: int
    before: float
    after: float
    low: float
    high: float


def compare(
    earlier: Summary, digests: Sequence[str], correct: Sequence[float]
) -> Comparison | None:
    """Compare the choice of a search with that of an earlier one; None without common photos.

    Args:
        digests: of the photos now.
        correct: of each, how often it was predicted right; NaN if it was never held out.
    """
    before: Mapping[str, float] = dict(zip(earlier.digests, earlier.correct, strict=True))
    pairs = [
        (before[digest], now)
        for digest, now in zip(digests, correct, strict=True)
        if digest in before and not math.isnan(now) and not math.isnan(before[digest])
    ]
    if len(pairs) < 2:
        return None
    gains = [now - then for then, now in pairs]
    mean, error = statistics.mean(gains), statistics.stdev(gains) / math.sqrt(len(gains))
    return Comparison(
        len(pairs),
        statistics.mean(then for then, _ in pairs),
        statistics.mean(now for _, now in pairs),
        mean - 1.96 * error,
        mean + 1.96 * error,
    )
