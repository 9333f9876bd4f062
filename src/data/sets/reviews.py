"""Film reviews of one line, most of them without a label: sentences as rows of word numbers."""

import csv
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from src.core.errors import UserError
from src.core.types import NonNegativeInt, PathText, PositiveInt, Seed
from src.data.base import DataModule
from src.data.order import loader

FILE = Path(__file__).with_name("reviews.csv")
COLUMNS = ("text", "label", "split")
CLASSES = ("negative", "positive")
# Not scikit-learn's list, which holds `not`, `no`, `never`, `nothing` and so turns reviews round. These say nothing of a film.
GRAMMAR = """
a an and are as at be because been but by did do does for from had has have he her him his i i'd i'll i'm i've if in
into is it it's its itself me my of on or our she so such than that that's the their them then there there's these they
this those to until up us was we we're were what when where which while who whom whose will with you your
"""
STOP_WORDS = frozenset(GRAMMAR.split())


class Review(NamedTuple):
    """A row: its words without stop words; label and split as they stand, empty where there is none."""

    words: list[str]
    label: str
    split: str


class Reviews(DataModule):
    """Sentences (B, L) of word numbers, 0 behind a sentence's end, with labels (B,): 0 negative, 1 positive, -1 none.

    The vocabulary is that of the sentences without labels alone: each word of it has company to learn from, it is the same
    whichever labelled sentence is left out, and nothing of that one is in it. Other words are passed over.

    Args:
        name: what the set is called in figures.
        root: a CSV file with the columns text, label (positive, negative or empty) and split (train or test; empty where the
            label is); None: the project's own 72 sentences.
        batch_size: sentences a training batch.
        seed: of the run; the order of the epochs depends on it.
        left_out: of all labelled sentences, in the file's order from 0, the one that is tested on, the others being trained
            on; None: as the column split says.
        labelled: train on the sentences with labels; False: on those without, and test on all that have one.
    """

    holds = "sentences"
    can_augment = False
    state_keys = ("words",)

    def __init__(
        self,
        name: str,
        root: PathText | None,
        batch_size: PositiveInt,
        seed: Seed,
        left_out: NonNegativeInt | None = None,
        labelled: bool = True,
    ) -> None:
        super().__init__()
        self.name, self.batch_size, self.seed = name, batch_size, seed
        self.root = FILE if root is None else Path(root).expanduser()
        self.left_out, self.labelled = left_out, labelled
        self.words: list[str]  # word k + 1 is words[k], the most frequent first
        self.counts: Tensor  # (len(words),) how often each is in the sentences without labels
        self.train: TensorDataset
        self.val: TensorDataset  # empty: there is too little to spare
        self.test: TensorDataset

    def setup(self, stage: str | None = None) -> None:
        """Read, check, split; once, whatever the stage."""
        if hasattr(self, "train"):
            return
        reviews = read(self.root)
        plain = [review for review in reviews if not review.label]
        if not plain:
            raise UserError(
                f"{self.root}: no row is without a label, and the vocabulary is made of those"
            )
        found = Counter(word for review in plain for word in review.words)
        self.words = sorted(found, key=lambda word: (-found[word], word))
        self.counts = torch.tensor([found[word] for word in self.words])
        train, test = self._split([review for review in reviews if review.label])
        if not self.labelled:
            train, test = plain, train + test
        number = {word: k + 1 for k, word in enumerate(self.words)}
        length = max(len(review.words) for review in reviews)
        self.train, self.val, self.test = (
            _numbered(part, number, length) for part in (train, [], test)
        )

    def _split(self, labelled: list[Review]) -> tuple[list[Review], list[Review]]:
        if self.left_out is None:
            parts = {
                part: [review for review in labelled if review.split == part]
                for part in ("train", "test")
            }
            if missing := [part for part, of_it in parts.items() if not of_it]:
                raise UserError(f"{self.root}: no row with a label has split={missing[0]}")
            return parts["train"], parts["test"]
        if not 0 <= self.left_out < len(labelled) or len(labelled) < 2:
            last = len(labelled) - 1
            raise UserError(
                f"data.left_out={self.left_out}: {self.root} has {last + 1} sentences with labels, 0 to {last}"
            )
        return labelled[: self.left_out] + labelled[self.left_out + 1 :], [labelled[self.left_out]]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must know: which word each vector is of."""
        return {"words": self.words}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise UserError where a checkpoint's vectors are of other words."""
        expect_same_words(self.words, state_dict["words"], f"{self.root} has", "the run learned")

    def train_dataloader(self) -> DataLoader:
        return loader(self.train, self.batch_size, self.seed, True, self.trainer)

    def test_dataloader(self) -> DataLoader:
        return loader(self.test, len(self.test), self.seed, False, self.trainer)


def expect_same_words(now: list[str], learned: list[str], who: str, than: str) -> None:
    """Raise UserError, '`who` other words than `than`', with the first that differs."""
    if now != learned:
        odd = sorted(set(now) ^ set(learned))
        raise UserError(
            f"{who} other words than {than} ({odd[0] if odd else 'the same, not equally often'})"
        )


def tokenize(sentence: str) -> list[str]:
    """Lower case, letters and the apostrophes between them; without stop words."""
    words = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", sentence.lower().replace("\u2019", "'"))
    return [word for word in words if word not in STOP_WORDS]


def read(path: Path) -> list[Review]:
    """The file's rows; raises UserError that names the file and the line at fault."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
                raise UserError(
                    f"{path}: its first line names no column {missing[0]}; it should be {','.join(COLUMNS)}"
                )
            return [_review(row, f"{path}, line {rows.line_num}") for row in rows]
    except OSError as error:
        raise UserError(f"data.root={path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"data.root={path} is no CSV file in UTF-8: {error}") from error


def _review(row: dict[str, str | None], where: str) -> Review:
    text, label, split = ((row[name] or "").strip() for name in COLUMNS)
    if None in row or None in row.values():
        raise UserError(
            f"{where}: it should have as many fields as the first line (a text with a comma stands in quotes)"
        )
    if label not in ("", *CLASSES):
        raise UserError(f"{where}: label={label}; it takes {', '.join(CLASSES)}, or nothing")
    if split not in (("train", "test") if label else ("",)):
        takes = "train or test" if label else "nothing where the label is empty"
        raise UserError(f"{where}: split={split}; it takes {takes}")
    words = tokenize(text)
    if len(words) < (1 if label else 2):
        raise UserError(
            f"{where}: text={text}; without stop words, {len(words)} is left (it takes 1 with a label, 2 without)"
        )
    return Review(words, label, split)


def _numbered(part: list[Review], number: dict[str, int], length: int) -> TensorDataset:
    tokens = torch.zeros(len(part), length, dtype=torch.int64)
    for row, review in zip(tokens, part, strict=True):
        known = [number[word] for word in review.words if word in number]
        row[: len(known)] = torch.tensor(known)
    labels = [CLASSES.index(review.label) if review.label else -1 for review in part]
    return TensorDataset(tokens, torch.tensor(labels, dtype=torch.int64))
