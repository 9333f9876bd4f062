"""The last sentence of a comparison."""

import pytest

from src.metrics.intervals import newcombe, welch
from src.runs.info import RunInfo
from src.runs.seeds import Group
from src.runs.verdict import verdict
from tests.runs.folders import make_run


@pytest.fixture
def group(tmp_path):
    """Return a function: values of test/acc -> a group with a run for each."""

    def make(*values, n=360, **more):
        found = []
        for seed, value in enumerate(values):
            metrics = {"test/acc": value, "test/acc_low": 0.0, "test/acc_high": 1.0, "test/n": n,
                       "test/loss": 1 - value}  # fmt: skip
            number = len(list(tmp_path.iterdir()))
            settings = {"seed": seed, **more.get("settings", {})}
            folder = make_run(
                tmp_path / str(number), metrics=metrics, **{**more, "settings": settings}
            )
            found.append(RunInfo(folder))
        return Group(found)

    return make


def sentence(*groups, metrics=("test/acc",)):
    return verdict(groups, "ABC"[: len(groups)], metrics)


def test_two_runs_are_compared_over_their_test_examples(group):
    low, high = newcombe([324, 280], [360, 360])
    assert sentence(group(0.5), group(280 / 360), group(0.9)) == (
        f"C is better than B by 0.122 test/acc (95% interval {low:.2g} to {high:.2g} over 360 test "
        "examples); one seed each, other seeds may differ"
    )
    close = sentence(group(0.9), group(0.91))
    assert close.startswith(
        "B and A cannot be distinguished: difference 0.01 test/acc (95% interval -0.0"
    )


@pytest.mark.parametrize("diverged", [float("nan"), float("inf")])
def test_run_that_diverged_is_not_compared(group, diverged):
    one, seeds = group(0.9), group(diverged, 0.7)
    assert seeds.estimate("test/acc") is None
    assert sentence(one, seeds) is None
    assert sentence(one, group(diverged)) is None


def test_seeds_are_compared_by_welch(group):
    low, high = welch([0.9, 0.91, 0.92], [0.7, 0.72])
    assert sentence(group(0.7, 0.72), group(0.9, 0.91, 0.92)) == (
        f"B is better than A by 0.2 test/acc (95% interval {low:.2g} to {high:.2g} over seeds)"
    )
    assert "cannot be distinguished" in sentence(group(0.7, 0.8), group(0.7, 0.9))


def test_lower_is_better_for_a_loss_and_a_run_gives_no_interval_of_it(group):
    assert sentence(group(0.5), group(0.75), metrics=["test/n", "test/loss"]) == (
        "B has the best test/loss; A is second by 0.25. One seed each: no interval; run more seeds"
    )


@pytest.mark.parametrize(
    ("values", "more", "words"),
    [
        ((0.5, 0.6), {}, "One of them has a single seed: no interval; run more seeds"),
        ((0.5, 0.5), {}, "All seeds are equal: no interval; run more seeds"),
        ((0.5,), {"n": 100}, "They were tested on different data: no interval"),
        ((0.5,), {"state": "failed"}, "One of them has not finished: no interval"),
    ],
)
def test_runs_that_cannot_be_compared_get_no_interval(group, values, more, words):
    best = group(0.9, 0.9) if "equal" in words else group(0.9)
    assert sentence(group(*values, **more), best).endswith(words)


@pytest.mark.parametrize(
    ("setting", "other"),
    [("classes", ["cats", "dogs"]), ("root", "other"), ("exclude", "bad.txt"), ("size", 64),
     ("split_seed", 1)],
)  # fmt: skip
def test_runs_with_different_test_sets_get_no_interval(group, setting, other):
    data = {"data._target_": "src.data.sets.folder.Folder", "data.name": "folder",
            "data.root": "photos"}  # fmt: skip
    one = group(0.9, settings=data, directory="/work")
    same = group(0.5, settings=data | {"data.root": "/work/photos"}, directory="/")
    assert "A is better than B by" in sentence(one, same)
    differ = group(0.5, settings=data | {f"data.{setting}": other}, directory="/work")
    assert sentence(one, differ).endswith("They were tested on different data: no interval")


def test_no_sentence_without_a_common_metric_or_a_second_group(group):
    assert sentence(group(0.5)) is None
    assert sentence(group(0.5), group(0.6), metrics=["val/acc"]) is None
