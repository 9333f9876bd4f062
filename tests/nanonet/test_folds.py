"""How photos are assigned to folds."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from src.nanonet.folds import ALWAYS_TRAINS, affordable_folds, assign_folds


def digests(n: int) -> list[str]:
    return [f"{i:032x}" for i in range(n)]


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    folds=st.integers(2, 6),
    seed=st.integers(0, 5),
)
def test_every_class_is_spread_evenly_over_the_folds(labels: list[int], folds: int, seed: int):
    n = len(labels)
    result = assign_folds(labels, list(range(n)), digests(n), folds, seed)
    for label in set(labels):
        own = [fold for fold, other in zip(result, labels, strict=True) if other == label]
        if len(own) == 1:
            assert own == [ALWAYS_TRAINS]
        else:
            counts = Counter(own)
            sizes = [counts[k] for k in range(folds)]
            assert max(sizes) - min(sizes) <= 1
            assert sum(sizes) == len(own)


@given(
    members=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=40),
    seed=st.integers(0, 5),
)
def test_near_duplicates_stay_together(members: list[tuple[int, int]], seed: int):
    labels, groups = [label for label, _ in members], [group for _, group in members]
    result = assign_folds(labels, groups, digests(len(members)), 3, seed)
    for group in set(groups):
        folds = {fold for fold, other in zip(result, groups, strict=True) if other == group}
        assert len(folds) == 1


def test_folds_depend_on_the_content_and_not_on_the_order_of_the_files():
    labels, names = [0, 1] * 10, digests(20)
    forward = assign_folds(labels, list(range(20)), names, 4, 7)
    backward = assign_folds(labels[::-1], list(range(20)), names[::-1], 4, 7)
    assert dict(zip(names, forward, strict=True)) == dict(zip(names[::-1], backward, strict=True))


def test_known_photos_keep_their_folds_and_new_ones_fill_the_smallest():
    names = digests(8)
    before = assign_folds([0] * 6, list(range(6)), names[:6], 2, 0)
    known = dict(zip(names, before, strict=False))
    after = assign_folds([0] * 8, list(range(8)), names, 2, 1, known)
    assert after[:6] == before
    assert sorted(after[6:]) == [0, 1]


def test_other_seeds_give_other_folds():
    labels = [0] * 30
    results = {
        tuple(assign_folds(labels, list(range(30)), digests(30), 5, seed)) for seed in range(4)
    }
    assert len(results) == 4


def test_no_more_folds_than_most_classes_have_photos():
    two_each, seven_each = [0, 0, 1, 1, 2, 2], [0] * 7 + [1] * 7
    assert affordable_folds(two_each, list(range(6)), 5) == 2
    assert affordable_folds(seven_each, list(range(14)), 5) == 5
    assert affordable_folds([*seven_each, 2, 2], list(range(16)), 5) == 5
    assert affordable_folds([0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 2, 3, 3, 4, 5], 5) == 3
    assert affordable_folds([0, 1], [0, 1], 5) == 5  # nothing can be validated
