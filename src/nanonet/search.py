"""Compare recipes by repeated cross-validation, cheap ones first, and drop the worst early."""

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from src.core.errors import TrainingFailed, UserError, first_line
from src.core.files import Damaged, load_checked, write_atomically
from src.nanonet.folds import Fold
from src.nanonet.recipes import OutOfTime, Prediction, Recipe

log = logging.getLogger(__name__)

MIN_KEPT = 2  # candidates that are never dropped before the last round
FIRST_SHARE = 0.5  # largest share of the remaining budget that a first fold may take
OUT_OF_TIME = "the budget was used up"
DIVERGED = "its training diverged"
LEVEL = 0.05  # a candidate is dropped early if the p-value of its lag is below this
QUIET = 10  # seconds between lines of progress

PREPARED = "prepared.json"  # how long it took to prepare a candidate, in its folder

# (recipe, training photos, photos held out, seconds left) -> the prediction of the third
Trains = Callable[[Recipe, Tensor, Tensor, float], Prediction]
Prepares = Callable[[Recipe], None]  # computes all that the folds of a recipe share


class Result(NamedTuple):
    """The cross-validation of one candidate.

    Attributes:
        recipe: how to train it.
        logits: (R, N, K) of each photo, in each repeat, by a network not trained on it; NaN
            where no fold has held it out.
        distance: (R, N) of each photo from those that the net was trained on; NaN as above.
        seconds: of training, all folds together.
        ending: why it was not finished; None if it was.
        preparation: seconds for all that the folds share: decoded photos, fixed features.
    """

    recipe: Recipe
    logits: Tensor
    distance: Tensor
    seconds: float
    ending: str | None
    preparation: float = 0.0

    def correct(self, labels: Tensor) -> Tensor:
        """Return how often each photo was predicted right, (N,): a share, NaN if never held out."""
        known = ~self.logits[..., 0].isnan()  # (R, N)
        right = (self.logits.argmax(2) == labels) & known
        return right.double().sum(0) / known.double().sum(0)

    def mean_logits(self) -> Tensor:
        """Return the mean of the logits over the repeats, (N, K); NaN if never held out."""
        return self.logits.nanmean(0)


class Search:
    """The cross-validation of all candidates.

    It runs in rounds: the first fold, the rest of the first repeat, all other repeats. After a
    round, candidates that trail the best one by more than chance are dropped, except that
    `MIN_KEPT` always stay. In each round the cheapest candidate comes first, and one that would not
    finish within the budget ends there; so does one whose first fold takes more than `FIRST_SHARE`
    of what is left. If the budget ends before any candidate does, those with the most folds are
    compared.

    Before its first fold a candidate is prepared. That is timed separately and not taken from the
    budget, but no further candidate is prepared once it has taken as long as the budget.

    Every finished fold is a file, so a search that was stopped goes on from there.

    Args:
        recipes: the candidates, cheap ones first.
        labels: of the N photos.
        num_classes: K.
        folds: of all repeats.
        trains: trains a recipe.
        prepares: prepares a recipe.
        folder: for the finished folds.
        budget: seconds of training.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        labels: Tensor,
        num_classes: int,
        folds: Sequence[Fold],
        trains: Trains,
        prepares: Prepares,
        folder: Path,
        budget: float,
    ) -> None:
        self.recipes, self.labels, self.folds = list(recipes), labels, list(folds)
        self.trains, self.prepares = trains, prepares
        self.folder, self.budget = folder, budget
        repeats = 1 + max((fold.repeat for fold in folds), default=0)
        shape = (repeats, len(labels), num_classes)
        self.logits = {recipe.name: torch.full(shape, torch.nan) for recipe in recipes}
        self.distance = {recipe.name: torch.full(shape[:2], torch.nan) for recipe in recipes}
        self.seconds = {recipe.name: 0.0 for recipe in recipes}
        self.preparation = {recipe.name: self._earlier_preparation(recipe) for recipe in recipes}
        self.prepared: set[str] = set()  # in this process
        self.trained = {recipe.name: 0 for recipe in recipes}  # folds
        self.endings: dict[str, str] = {}
        self.printed = float("-inf")  # when the last line of progress was printed

    def run(self) -> list[Result]:
        """Run all rounds; return the results in the order of the candidates."""
        first = [fold for fold in self.folds if fold.repeat == 0]
        rounds = [first[:1], first[1:], self.folds[len(first) :]]
        running = list(self.recipes)
        total = len(running) * len(self.folds)
        with tqdm(total=total, unit="fold", disable=None, leave=False) as bar:
            for number, folds in enumerate(rounds):
                if number:
                    running.sort(key=lambda recipe: self.seconds[recipe.name])
                for fold, recipe in product(folds, running):  # all have the same folds at the end
                    if recipe.name in self.endings:
                        continue
                    bar.set_description(recipe.name)
                    self._train(recipe, fold, share=1 if number else FIRST_SHARE)
                    bar.update()
                    if recipe.name not in self.endings:
                        self._print_progress(recipe, bar)
                running = [recipe for recipe in running if recipe.name not in self.endings]
                if not running:
                    self._revive()
                    break
                if folds is not rounds[-1]:
                    running = self._without_the_worst(running)
                bar.total = bar.n + len(running) * sum(map(len, rounds[number + 1 :]))
        return [self._result(recipe) for recipe in self.recipes]

    def _result(self, recipe: Recipe) -> Result:
        name = recipe.name
        return Result(
            recipe,
            self.logits[name],
            self.distance[name],
            self.seconds[name],
            self.endings.get(name),
            self.preparation[name],
        )

    def _train(self, recipe: Recipe, fold: Fold, share: float) -> None:
        """Train a candidate on a fold, for at most this share of the remaining budget."""
        path = self.folder / recipe.name / f"{fold.repeat}-{fold.number}.pt"
        if (saved := self._load(path, fold)) is None:
            mean = self.seconds[recipe.name] / max(1, self.trained[recipe.name])
            left = share * (self.budget - sum(self.seconds.values()))
            start = time.monotonic()
            try:
                if mean > left:
                    raise OutOfTime
                self._prepare(recipe)
                start = time.monotonic()
                made = self.trains(recipe, fold.train, fold.held_out, left)
                if not made.logits.isfinite().all():
                    raise TrainingFailed
            except (OutOfTime, TrainingFailed) as error:
                self.seconds[recipe.name] += time.monotonic() - start
                is_late = isinstance(error, OutOfTime)
                return self._end(recipe, OUT_OF_TIME if is_late else DIVERGED)
            except UserError as error:
                return self._end(recipe, first_line(error))
            saved = {**made._asdict(), "seconds": time.monotonic() - start}
            write_atomically(path, partial(torch.save, saved))
        self.logits[recipe.name][fold.repeat, fold.held_out] = saved["logits"]
        self.distance[recipe.name][fold.repeat, fold.held_out] = saved["distance"]
        self.seconds[recipe.name] += saved["seconds"]
        self.trained[recipe.name] += 1

    def _prepare(self, recipe: Recipe) -> None:
        """Prepare a candidate once, and note how long that takes.

        Raises:
            OutOfTime: it is not the first, and preparing others took as long as the budget.
        """
        name = recipe.name
        if name in self.prepared:
            return
        used = sum(self.preparation.values())
        if used and used >= self.budget:
            raise OutOfTime
        start = time.monotonic()
        self.prepares(recipe)
        self.prepared.add(name)
        if not self.preparation[name]:  # else it is read from disk: it took long once
            self.preparation[name] = time.monotonic() - start
            text = json.dumps({"seconds": self.preparation[name]})
            write_atomically(self.folder / name / PREPARED, lambda path: path.write_text(text))

    def _earlier_preparation(self, recipe: Recipe) -> float:
        """Return the seconds that it took to prepare a candidate before this search was stopped."""
        try:
            text = (self.folder / recipe.name / PREPARED).read_text(encoding="utf-8")
            return float(json.loads(text)["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0

    def _print_progress(self, recipe: Recipe, bar: Any) -> None:
        """Print a line every `QUIET` seconds if there is no progress bar, as in a log file."""
        now = time.monotonic()
        if not bar.disable or now < self.printed + QUIET:
            return
        self.printed = now
        left = self.budget - sum(self.seconds.values())
        print(
            f"{recipe.name}: {self.trained[recipe.name]} of {len(self.folds)} folds, "
            f"accuracy {self._accuracy(recipe):.1%}; at most {left:,.0f} s left for comparing",
            flush=True,
        )

    def _end(self, recipe: Recipe, reason: str) -> None:
        """Note and print why a candidate is not trained any further."""
        self.endings[recipe.name] = reason
        done, accuracy = self.trained[recipe.name], self._accuracy(recipe)
        after = f" after {done} of {len(self.folds)} folds, accuracy {accuracy:.1%}" if done else ""
        tqdm.write(f"{recipe.name}: {reason}{after}")

    def _revive(self) -> None:
        """Treat as finished the candidates that had the most folds, or one fewer, at the end.

        Raises:
            UserError: no candidate has finished a fold.
        """
        ended = [name for name, reason in self.endings.items() if reason == OUT_OF_TIME]
        most = max((self.trained[name] for name in ended), default=0)
        if most == 0:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.endings.items())
            raise UserError(f"no candidate could be evaluated: {reasons}")
        for name in ended:
            if self.trained[name] >= max(1, most - 1):
                del self.endings[name]
        tqdm.write(f"{OUT_OF_TIME}: choosing by {most} of {len(self.folds)} folds")

    def _accuracy(self, recipe: Recipe) -> float:
        """Return the accuracy over the folds that are finished; NaN without any."""
        return float(self._result(recipe).correct(self.labels).nanmean())

    def _load(self, path: Path, fold: Fold) -> dict[str, Any] | None:
        """Return a finished fold; None if there is none, or it is damaged."""
        try:
            saved = load_checked(path)
            count = len(fold.held_out)
            if saved["logits"].shape != (count, self._num_classes):
                raise Damaged("it is of other photos")
            saved["distance"] = saved["distance"].view(count)
            saved["seconds"] = float(saved["seconds"])
            return dict(saved)
        except FileNotFoundError:
            return None
        except (Damaged, AttributeError, KeyError, RuntimeError, TypeError):
            log.info("%s is damaged: training this fold again", path)
            return None

    @property
    def _num_classes(self) -> int:
        return next(iter(self.logits.values())).shape[2]

    def _without_the_worst(self, running: Sequence[Recipe]) -> list[Recipe]:
        """Return the candidates that may still be the best."""
        correct = {recipe.name: self._result(recipe).correct(self.labels) for recipe in running}
        ranked = sorted(running, key=lambda recipe: -float(correct[recipe.name].nanmean()))
        best = correct[ranked[0].name]
        kept = []
        for rank, recipe in enumerate(ranked):
            other = correct[recipe.name]
            ahead, behind = int((best > other).sum()), int((best < other).sum())
            if rank < MIN_KEPT or sign_test(ahead, behind) >= LEVEL:
                kept.append(recipe)
            else:
                self._end(recipe, "dropped early")
        return [recipe for recipe in running if recipe in kept]


def sign_test(ahead: int, behind: int) -> float:
    """Return the one-sided p-value: the probability of this lead if both are equally good.

    Args:
        ahead: number of photos that only the leading candidate predicts right.
        behind: number of photos that only the other one predicts right.
    """
    differing = ahead + behind
    return sum(math.comb(differing, k) for k in range(ahead, differing + 1)) / 2**differing
