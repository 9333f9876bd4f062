"""The search among candidates, with made-up ones."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from src.core.errors import TrainingFailed, UserError
from src.nanonet.choice import choose, honest_accuracy
from src.nanonet.folds import assign_folds, make_folds
from src.nanonet.recipes import OutOfTime, Prediction, Recipe
from src.nanonet.search import Result, Search, sign_test
from src.nanonet.study import learning_curve

N, K = 60, 3
LABELS = torch.arange(N) % K


def recipe(name: str) -> Recipe:
    return Recipe(name, [], OmegaConf.create())


def folds(repeats: int = 2, number: int = 4):
    names = [f"{i:032x}" for i in range(N)]
    rows = [
        assign_folds(LABELS.tolist(), list(range(N)), names, number, seed)
        for seed in range(repeats)
    ]
    return make_folds(rows)


class Oracle:
    """Predicts right with the accuracy in the recipe's name, always the same photos."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(
        self, recipe: Recipe, train: Tensor, held_out: Tensor, seconds: float
    ) -> Prediction:
        self.calls.append(recipe.name)
        assert not set(train.tolist()) & set(held_out.tolist())
        accuracy = float(recipe.name.removeprefix("a"))
        right = torch.rand(N, generator=torch.Generator().manual_seed(1)) < accuracy
        predicted = torch.where(right, LABELS, (LABELS + 1) % K)[held_out]
        logits = 5 * torch.nn.functional.one_hot(predicted, K).float()
        return Prediction(logits, torch.ones(len(held_out)))


def search(
    names: list[str], trains, folder: Path, budget: float = 1e9, prepares=lambda recipe: None
) -> list[Result]:
    recipes = [recipe(name) for name in names]
    return Search(recipes, LABELS, K, folds(), trains, prepares, folder, budget).run()


def test_best_candidate_is_chosen_and_the_worst_are_dropped_early(tmp_path: Path):
    oracle = Oracle()
    results = search(["a0.3", "a0.9", "a0.95", "a0.4"], oracle, tmp_path)
    assert choose(results, LABELS).recipe.name == "a0.95"
    endings = {result.recipe.name: result.ending for result in results}
    assert endings == {
        "a0.3": "dropped early", "a0.4": "dropped early", "a0.9": None, "a0.95": None,
    }  # fmt: skip
    assert oracle.calls.count("a0.95") == 8
    assert oracle.calls.count("a0.3") < 8


def test_two_photos_are_too_few_to_drop_a_candidate(tmp_path: Path):
    recipes = [recipe(name) for name in ("a1.0", "a1.00", "a0.0")]
    parts = make_folds([[0, 0, *[-1] * (N - 2)]])
    results = Search(recipes, LABELS, K, parts, Oracle(), lambda _: None, tmp_path, 1e9).run()
    assert [float(result.correct(LABELS).nanmean()) for result in results] == [1, 1, 0]
    assert [result.ending for result in results] == [None] * 3


@pytest.mark.parametrize(
    ("ahead", "behind", "expected"),
    [(0, 0, 1), (2, 0, 1 / 4), (5, 0, 1 / 32), (2, 1, 1 / 2), (3, 1, 5 / 16)],
)
def test_sign_test_is_the_tail_of_a_fair_coin(ahead: int, behind: int, expected: float):
    assert sign_test(ahead, behind) == expected


def test_the_first_of_equally_accurate_candidates_is_chosen():
    wrong_once = torch.nn.functional.one_hot(LABELS, K).float()[None]
    wrong_once[0, 0] = wrong_once[0, 0].flip(0)
    results = [
        Result(recipe(name), logits, torch.ones(1, N), 0, None)
        for name, logits in [
            ("worse", wrong_once * 0),
            ("simple", wrong_once),
            ("confident", wrong_once * 9),
        ]
    ]
    assert choose(results, LABELS).recipe.name == "simple"


def test_accuracy_is_the_share_of_right_predictions_over_all_repeats(tmp_path: Path):
    (result,) = search(["a0.5"], Oracle(), tmp_path)
    right = torch.rand(N, generator=torch.Generator().manual_seed(1)) < 0.5
    assert torch.equal(result.correct(LABELS), right.double())


def test_stopped_search_goes_on_from_its_finished_folds(tmp_path: Path):
    whole = search(["a0.8", "a0.9"], Oracle(), tmp_path / "whole")
    first = Oracle()

    def stops(recipe: Recipe, train: Tensor, held_out: Tensor, seconds: float) -> Prediction:
        if len(first.calls) == 3:
            raise KeyboardInterrupt
        return first(recipe, train, held_out, seconds)

    with pytest.raises(KeyboardInterrupt):
        search(["a0.8", "a0.9"], stops, tmp_path / "cut")
    second = Oracle()
    resumed = search(["a0.8", "a0.9"], second, tmp_path / "cut")
    assert len(second.calls) == 16 - 3
    for a, b in zip(whole, resumed, strict=True):
        assert torch.equal(a.logits, b.logits)


def test_damaged_fold_is_trained_again(tmp_path: Path):
    search(["a0.8"], Oracle(), tmp_path)
    (tmp_path / "a0.8" / "0-1.pt").write_bytes(b"nothing")
    oracle = Oracle()
    search(["a0.8"], oracle, tmp_path)
    assert len(oracle.calls) == 1


def test_candidate_that_diverges_is_reported_and_the_others_go_on(tmp_path: Path):
    def trains(recipe: Recipe, train: Tensor, held_out: Tensor, seconds: float) -> Prediction:
        if recipe.name == "a0.1":
            raise TrainingFailed("the loss is nan")
        made = Oracle()(recipe, train, held_out, seconds)
        return made._replace(logits=made.logits / 0) if recipe.name == "a0.2" else made

    stopped, broken, whole = search(["a0.1", "a0.2", "a0.9"], trains, tmp_path)
    assert [stopped.ending, broken.ending] == ["its training diverged"] * 2
    assert choose([stopped, broken, whole], LABELS) is whole


def test_candidate_that_cannot_be_trained_is_reported_and_the_others_go_on(tmp_path: Path):
    def trains(recipe: Recipe, train: Tensor, held_out: Tensor, seconds: float) -> Prediction:
        if recipe.name == "a0.1":
            raise UserError("its weights are not here")
        return Oracle()(recipe, train, held_out, seconds)

    broken, whole = search(["a0.1", "a0.9"], trains, tmp_path)
    assert (broken.ending, whole.ending) == ("its weights are not here", None)


def test_no_candidate_left_is_one_line(tmp_path: Path):
    def trains(recipe: Recipe, train: Tensor, held_out: Tensor, seconds: float) -> Prediction:
        raise UserError("no weights")

    with pytest.raises(UserError, match=r"a0\.1: no weights; a0\.2: no weights"):
        search(["a0.1", "a0.2"], trains, tmp_path)


def test_budget_ends_candidates(tmp_path: Path):
    results = search(["a0.9", "a0.8"], Oracle(), tmp_path, budget=1e9)
    assert all(result.ending is None for result in results)
    with pytest.raises(UserError, match="budget"):
        search(["a0.9"], Oracle(), tmp_path / "none", budget=-1)


def clock(monkeypatch) -> list[float]:
    """Replace the clock of the search by one that only tests move: [seconds]."""
    now = [0.0]
    monkeypatch.setattr("src.nanonet.search.time.monotonic", lambda: now[0])
    return now


def test_time_for_features_is_reported_but_neither_dropped_for_nor_counted(tmp_path, monkeypatch):
    now, oracle = clock(monkeypatch), Oracle()

    def prepares(recipe: Recipe) -> None:
        now[0] += 50

    def trains(recipe: Recipe, train: Tensor, held_out: Tensor, seconds: float) -> Prediction:
        now[0] += 1
        return oracle(recipe, train, held_out, seconds)

    results = search(["a0.8", "a0.9"], trains, tmp_path, budget=60, prepares=prepares)
    assert [(result.preparation, result.seconds, result.ending) for result in results] == [
        (50, 8, None), (50, 8, None),
    ]  # fmt: skip
    again = search(["a0.8", "a0.9"], trains, tmp_path, budget=60, prepares=prepares)
    assert [result.preparation for result in again] == [50, 50]


def test_budget_that_ends_all_candidates_leaves_those_with_the_most_folds(tmp_path, monkeypatch):
    now = clock(monkeypatch)
    seconds = {"a0.8": 10, "a0.9": 10, "a0.95": 35}  # of each fold
    oracle = Oracle()

    def trains(recipe: Recipe, train: Tensor, held_out: Tensor, left: float) -> Prediction:
        now[0] += min(left, seconds[recipe.name])
        if left < seconds[recipe.name]:
            raise OutOfTime
        return oracle(recipe, train, held_out, left)

    results = search(list(seconds), trains, tmp_path, budget=60)
    assert [result.ending for result in results] == [None, None, "the budget was used up"]
    assert choose(results, LABELS).recipe.name == "a0.9"


def test_first_fold_takes_at_most_half_of_the_remaining_budget(tmp_path, monkeypatch):
    clock(monkeypatch)
    given = []

    def trains(recipe: Recipe, train: Tensor, held_out: Tensor, left: float) -> Prediction:
        given.append(left)
        return Oracle()(recipe, train, held_out, left)

    search(["a0.9"], trains, tmp_path, budget=1000)
    assert given[:2] == [500, 1000]


def test_no_further_candidate_is_prepared_after_the_budget_is_used_up(tmp_path, monkeypatch):
    now = clock(monkeypatch)

    def prepares(recipe: Recipe) -> None:
        now[0] += 100

    first, second = search(["a0.8", "a0.9"], Oracle(), tmp_path, budget=60, prepares=prepares)
    assert (first.ending, second.ending) == (None, "the budget was used up")
    assert (first.preparation, second.preparation) == (100, 0)


def test_learning_curve_of_unequal_classes_ends_where_the_cross_validation_is():
    labels = torch.tensor([*[0] * 10, *[1] * 6, 2])
    digests = [f"{i:032x}" for i in range(17)]
    parts = make_folds([assign_folds(labels.tolist(), list(range(17)), digests, 2, 0)])
    drawn = []

    def trains(recipe: Recipe, train: Tensor, held_out: Tensor, seconds: float) -> Prediction:
        drawn.append(train)
        return Prediction(torch.eye(K)[labels[held_out]], torch.ones(len(held_out)))

    sizes, correct = learning_curve(
        recipe("a"), labels, parts, SimpleNamespace(predict=trains), seed=0
    )
    assert sizes == [1, 2, 4, 5]
    assert [labels[train].bincount().tolist() for train in drawn[:4]] == [
        [1, 1, 1], [2, 2, 1], [4, 3, 1], [5, 3, 1],
    ]  # fmt: skip
    assert torch.equal(drawn[3], parts[0].train)
    assert correct.shape == (4, 16)  # the photo of the smallest class is never held out


@pytest.mark.parametrize(("seconds", "done"), [(100, 30), (10, 0)])
def test_learning_curve_stops_when_its_time_is_up(monkeypatch, seconds: int, done: int):
    now = [0.0]
    monkeypatch.setattr("src.nanonet.study.time.monotonic", lambda: now[0])

    def trains(recipe: Recipe, train: Tensor, held_out: Tensor, left: float) -> Prediction:
        now[0] += 10
        if left < 10:
            raise OutOfTime
        return Oracle()(recipe, train, held_out, left)

    lab = SimpleNamespace(predict=trains)
    sizes, correct = learning_curve(recipe("a0.9"), LABELS, folds(), lab, 0, seconds)
    assert sizes == ([1, 2, 4, 8, 15] if done else [])
    assert correct.shape == (len(sizes), done)


def test_luck_of_the_best_of_many_equal_candidates_is_taken_off():
    noise = torch.Generator().manual_seed(0)
    results = []
    for _ in range(40):  # all guess: any lead is luck
        predicted = torch.randint(0, K, (1, N), generator=noise)
        logits = torch.nn.functional.one_hot(predicted, K).float()
        results.append(Result(recipe("guess"), logits, torch.ones(1, N), 0, None))
    best = max(float(result.correct(LABELS).mean()) for result in results)
    honest = honest_accuracy(results, LABELS, seed=0)
    assert best > 0.45
    assert abs(honest - 1 / 3) < 0.06
