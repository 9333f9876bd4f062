"""Cut photos into the folds of a repeated, stratified cross-validation."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median_low
from typing import NamedTuple

import torch
from torch import Tensor

from src.core.randomness import derive_seed

ALWAYS_TRAINS = -1  # the fold of a photo without which its class would be empty


class Fold(NamedTuple):
    """One training run of the cross-validation.

    Attributes:
        repeat, number: which one.
        train, held_out: indices of photos.
    """

    repeat: int
    number: int
    train: Tensor
    held_out: Tensor


def affordable_folds(labels: Sequence[int], groups: Sequence[int], wanted: int) -> int:
    """Return `wanted` folds, or fewer, at least 2, if most classes have fewer photos.

    With more folds than photos of a class, a fold would hold out one photo of some classes and none
    of others. The network would learn from fewer photos of the classes that it is tested on, and be
    wrong more often than one that is trained on all photos.

    Args:
        labels, groups: of the N photos; a group of near duplicates counts once.
        wanted: number of folds, at least 2.
    """
    groups_of: dict[int, set[int]] = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        groups_of[label].add(group)
    sizes = [len(own) for own in groups_of.values() if len(own) > 1]
    return max(2, min(wanted, median_low(sizes))) if sizes else wanted


def assign_folds(
    labels: Sequence[int],
    groups: Sequence[int],
    digests: Sequence[str],
    folds: int,
    seed: int,
    known: Mapping[str, int] | None = None,
) -> list[int]:
    """Return the fold of each photo, from 0 to folds - 1.

    Every class is spread evenly over the folds, and a group stays together. The order in which
    groups are placed depends on the seed and the photos' content alone, so a photo has the same
    fold whatever its file is called. A class with a single group cannot be validated, because
    nothing of it would be left to train on: its photos have the fold `ALWAYS_TRAINS`.

    Args:
        labels, groups, digests: of the N photos.
        folds: number of folds, at least 2.
        seed: of this repeat.
        known: folds of photos from an earlier search, by digest; they are kept.
    """
    known = known or {}
    members: dict[int, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    groups_of: dict[int, set[int]] = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        groups_of[label].add(group)
    single = {next(iter(own)) for own in groups_of.values() if len(own) == 1}

    result = [ALWAYS_TRAINS] * len(labels)
    in_class: dict[tuple[int, int], int] = defaultdict(int)  # photos by (class, fold)
    in_fold = [0] * folds

    def place(group: int, fold: int) -> None:
        for i in members[group]:
            result[i] = fold
            in_class[labels[i], fold] += 1
            in_fold[fold] += 1

    def order(group: int) -> tuple[int, int]:
        first = min(digests[i] for i in members[group])
        return -len(members[group]), derive_seed(seed, "fold", first)

    waiting = []
    for group in sorted(set(members) - single, key=order):
        earlier = [known[digests[i]] for i in members[group] if digests[i] in known]
        if earlier and 0 <= earlier[0] < folds:
            place(group, earlier[0])
        else:
            waiting.append(group)
    for group in waiting:
        label = labels[members[group][0]]
        place(group, min(range(folds), key=lambda k: (in_class[label, k], in_fold[k], k)))
    return result


def make_folds(assigned: Sequence[Sequence[int]]) -> list[Fold]:
    """Return the folds of all repeats.

    Args:
        assigned: for each repeat, the fold of each photo; negative: it is never held out.
    """
    made = []
    for repeat, row in enumerate(assigned):
        fold_of = torch.tensor(row)
        for number in range(int(fold_of.max()) + 1):
            held_out = (fold_of == number).nonzero().flatten()
            made.append(Fold(repeat, number, (fold_of != number).nonzero().flatten(), held_out))
    return made
