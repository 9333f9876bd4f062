"""Film reviews of one sentence, most of them without a label, as rows of word numbers."""

import csv
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from src.core.counts import count
from src.core.errors import UserError
from src.core.types import InputPath, NonNegativeInt, PositiveInt, Seed
from src.data.base import DataModule
from src.data.order import loader

FILE = Path(__file__).with_name("reviews.csv")
COLUMNS = ("text", "label", "split")
CLASSES = ("negative", "positive")
# Words that say nothing about a film. scikit-learn's list also has `not`, `no`, `never` and
# `nothing`; without these a review means its opposite.
GRAMMAR = """
a an and are as at be because been but by did do does for from had has have he her him his i i'd
i'll i'm i've if in into is it it's its itself me my of on or our she so such than that that's the
their them then there there's these they this those to until up us was we we're were what when where
which while who whom whose will with you your
"""
STOP_WORDS = frozenset(GRAMMAR.split())


class Review(NamedTuple):
    """A row of the file.

    Attributes:
        words: its words, without stop words.
        label, split: as in the file; empty if there is none.
    """

    words: list[str]
    label: str
    split: str


class Reviews(DataModule):
    """Sentences (B, L) of word numbers, 0 after the end, and labels (B,).

    Labels are 0 negative, 1 positive, -1 none. The vocabulary comes from the unlabeled sentences
    only; other words are ignored. So every word has a context to learn from, and the vocabulary
    does not depend on which labeled sentence is left out, and knows nothing about it.

    Args:
        name: name of the set in metrics.
        root: a CSV file with the columns text, label (positive, negative or empty) and split (train
            or test; empty if the label is). None: the 72 sentences of this project.
        batch_size: sentences per training batch.
        seed: seed of the run, on which the order of the epochs depends.
        left_out: test on this labeled sentence, counted from 0 in the order of the file, and train
            on the others. None: as the column split says.
        labeled: train on the labeled sentences. False: train on the others, test on all labeled, if
            there are any.
    """

    holds = "sentences"
    can_augment = False
    state_keys = ("words",)

    def __init__(
        self,
        name: str,
        root: InputPath | None,
        batch_size: PositiveInt,
        seed: Seed,
        left_out: NonNegativeInt | None = None,
        labeled: bool = True,
    ) -> None:
        super().__init__()
        self.name, self.batch_size, self.seed = name, batch_size, seed
        self.root = FILE if root is None else Path(root).expanduser()
        self.left_out, self.labeled = left_out, labeled
        self.words: list[str]  # word number k + 1 is words[k]; the most frequent word first
        self.counts: Tensor  # (len(words),) occurrences in the unlabeled sentences
        self.train: TensorDataset
        self.val: TensorDataset  # empty: there are too few sentences
        self.test: TensorDataset

    def setup(self, stage: str | None = None) -> None:
        """Read, check and split the sentences. Does this once, whatever the stage."""
        if hasattr(self, "train"):
            return
        reviews = read(self.root)
        unlabeled = [review for review in reviews if not review.label]
        if not unlabeled:
            raise UserError(
                f"{self.root}: every row has a label, but the vocabulary needs rows without"
            )
        counts = Counter(word for review in unlabeled for word in review.words)
        self.words = sorted(counts, key=lambda word: (-counts[word], word))
        self.counts = torch.tensor([counts[word] for word in self.words])
        labeled = [review for review in reviews if review.label]
        train, test = self._split(labeled) if labeled or self.labeled else ([], [])
        if not self.labeled:
            train, test = unlabeled, train + test
        numbers = {word: k + 1 for k, word in enumerate(self.words)}
        length = max(len(review.words) for review in reviews)
        self.train, self.val, self.test = (
            _to_tensors(part, numbers, length) for part in (train, [], test)
        )

    def _split(self, labeled: list[Review]) -> tuple[list[Review], list[Review]]:
        if self.left_out is None:
            train, test = (
                [review for review in labeled if review.split == split]
                for split in ("train", "test")
            )
            for split, part in (("train", train), ("test", test)):
                if self.labeled and not part:
                    raise UserError(f"{self.root}: no row with a label has split={split}")
            return train, test
        if not 0 <= self.left_out < len(labeled) or len(labeled) < 2:
            raise UserError(
                f"data.left_out={self.left_out}: {self.root} has "
                f"{count(len(labeled), 'sentence')} with labels, 0 to {len(labeled) - 1}"
            )
        return labeled[: self.left_out] + labeled[self.left_out + 1 :], [labeled[self.left_out]]

    def state_dict(self) -> dict[str, Any]:
        """Return the word of each vector, which a checkpoint needs."""
        return {"words": self.words}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise UserError if the vectors of a checkpoint belong to other words."""
        what = f"the vocabulary of {self.root} differs from that of the run"
        expect_same_words(self.words, state_dict["words"], what)

    def train_dataloader(self) -> Iterable[Any]:
        return loader(self.train, self.batch_size, self.seed, "train", self.trainer)

    def test_dataloader(self) -> Iterable[Any]:
        n = len(self.test)
        return loader(self.test, n, self.seed, "test", self.trainer) if n else []


def expect_same_words(now: list[str], learned: list[str], what: str) -> None:
    """Raise UserError if two vocabularies differ: `what`, and the first word of only one."""
    if now != learned:
        different = sorted(set(now) ^ set(learned))
        detail = f"first difference: '{different[0]}'" if different else "different frequency order"
        raise UserError(f"{what} ({detail})")


def tokenize(sentence: str) -> list[str]:
    """Return the words in lower case: letters, and apostrophes between them; no stop words."""
    words = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", sentence.lower().replace("\u2019", "'"))
    return [word for word in words if word not in STOP_WORDS]


def read(path: Path) -> list[Review]:
    """Read the rows of a file; raises UserError that names the file and the line at fault."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
                raise UserError(
                    f"{path}: its first line names no column {missing[0]}; "
                    f"it should be {','.join(COLUMNS)}"
                )
            return [_review(row, f"{path}, line {rows.line_num}") for row in rows]
    except OSError as error:
        raise UserError(f"data.root={path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"data.root={path} is not a CSV file in UTF-8: {error}") from error


def _review(row: dict[str, str | None], where: str) -> Review:
    """Check one row; `where` names file and line for errors."""
    text, label, split = ((row[name] or "").strip() for name in COLUMNS)
    if None in row or None in row.values():
        raise UserError(
            f"{where}: it should have the same number of fields as the first line "
            "(put a text with a comma in quotes)"
        )
    if label not in ("", *CLASSES):
        raise UserError(f"{where}: label={label}: must be {', '.join(CLASSES)} or empty")
    if split not in (("train", "test") if label else ("",)):
        allowed = "train or test" if label else "empty, like the label"
        raise UserError(f"{where}: split={split}: must be {allowed}")
    words = tokenize(text)
    if len(words) < (1 if label else 2):
        raise UserError(
            f"{where}: text={text}; it has {len(words)} words that are not stop words "
            "(1 is needed with a label, 2 without)"
        )
    return Review(words, label, split)


def _to_tensors(part: list[Review], numbers: dict[str, int], length: int) -> TensorDataset:
    """Return tokens (N, length) and labels (N,), both int64."""
    tokens = torch.zeros(len(part), length, dtype=torch.int64)
    for row, review in zip(tokens, part, strict=True):
        known = [numbers[word] for word in review.words if word in numbers]
        row[: len(known)] = torch.tensor(known)
    labels = [CLASSES.index(review.label) if review.label else -1 for review in part]
    return TensorDataset(tokens, torch.tensor(labels, dtype=torch.int64))
