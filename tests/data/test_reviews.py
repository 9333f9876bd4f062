"""The review sentences, and word vectors from the unlabeled ones."""

import csv
from collections import Counter

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src import losses
from src.callbacks.vectors import nearest_words
from src.core import runs
from src.core.errors import UserError
from src.data.sets.reviews import FILE, tokenize
from src.models.word_vectors import noise_shares, pairs
from src.train import train
from tests.conftest import data_of, saved, weights_of

CPU = ("trainer.accelerator=cpu", "trainer.precision=32-true")
WORDS = ("model=word_vectors", "data=reviews", *CPU)
SENTIMENT = ("model=sentiment", "data=reviews", *CPU, "callbacks=none", "logger=csv")


def sentences(part):
    return [tuple(row.tolist()) for row in part.tensors[0]]


def test_tokenize_lowercases_and_drops_stop_words():
    message = (
        "It\u2019s NOT the film's fault: I don't think 2 hours were \u201ctoo much\u201d for us!"
    )
    assert tokenize(message) == ["not", "film's", "fault", "don't", "think", "hours", "too", "much"]
    assert tokenize("Größe, naïve") == ["größe", "naïve"]
    assert tokenize("There it was.") == []


def test_pairs_of_a_known_sentence():
    tokens = torch.tensor([[1, 2, 3, 1, 0]])
    found = Counter(
        zip(*(part.tolist() for part in pairs(tokens, torch.full_like(tokens, 2))), strict=True)
    )
    near = {(1, 2): 1, (2, 1): 1, (2, 3): 1, (3, 2): 1, (3, 1): 1, (1, 3): 1}
    two_apart = {(1, 3): 1, (3, 1): 1, (2, 1): 1, (1, 2): 1}
    assert found == Counter(near) + Counter(two_apart)


@pytest.mark.parametrize("window", [1, 3, 99])
@pytest.mark.parametrize("dynamic", [False, True])
def test_pairs_equal_those_of_a_loop(window, dynamic):
    rng = np.random.default_rng(window)
    tokens, windows = np.zeros((5, 8), int), np.full((5, 8), window)
    if dynamic:
        windows = rng.integers(1, window + 1, (5, 8))
    expected = Counter()
    for row, reach, length in zip(tokens, windows, (0, 1, 2, 5, 8), strict=True):
        row[:length] = rng.integers(1, 6, length)
        expected.update(
            (row[i], row[j])
            for i in range(length)
            for j in range(length)
            if i != j and abs(i - j) <= reach[i]
        )
    centers, contexts = pairs(torch.from_numpy(tokens), torch.from_numpy(windows))
    assert Counter(zip(centers.tolist(), contexts.tolist(), strict=True)) == expected


def test_noise_words_follow_the_unigram_distribution():
    shares = noise_shares(torch.tensor([81, 16, 1]))
    assert shares.tolist() == pytest.approx([0, 27 / 36, 8 / 36, 1 / 36])


def test_noise_distribution_of_a_run_counts_its_sentences(words_run):
    with FILE.open(newline="") as file:
        counts = Counter(
            word
            for row in csv.DictReader(file)
            if not row["label"]
            for word in tokenize(row["text"])
        )
    words = runs.load_checkpoint(runs.last_checkpoint(words_run))["Reviews"]["words"]
    assert set(words) == set(counts)
    expected = np.array([counts[word] for word in words]) ** 0.75
    assert np.allclose(weights_of(words_run)["noise"][1:], expected / expected.sum())


def test_skip_gram_loss_equals_numpy():
    rng = np.random.default_rng(0)
    center, context, noise = (
        rng.normal(size=(6, 4)),
        rng.normal(size=(6, 4)),
        rng.normal(size=(6, 3, 4)),
    )
    expected = 0.0
    for p in range(6):
        expected += np.logaddexp(0, -context[p] @ center[p])
        expected += sum(np.logaddexp(0, noise[p, k] @ center[p]) for k in range(3))
    value = losses.skip_gram(*map(torch.from_numpy, (center, context, noise)))
    assert value.item() == pytest.approx(expected / 6, rel=1e-12)


def test_bundled_reviews_have_72_sentences(config):
    data = data_of(config, *SENTIMENT)
    assert (len(data.train), len(data.val), len(data.test)) == (8, 0, 2)
    assert data.train.tensors[1].sort().values.tolist() == [0] * 4 + [1] * 4
    assert data.test.tensors[1].sort().values.tolist() == [0, 1]
    plain = data_of(config, *WORDS)
    assert (len(plain.train), len(plain.test)) == (62, 10)
    assert plain.train.tensors[1].unique().tolist() == [-1]
    with FILE.open(newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    assert len({" ".join(tokenize(text)) for text in texts}) == 72, (
        "no labeled sentence repeats another"
    )
    assert all(5 <= len(text.split()) <= 14 for text in texts)


def test_left_out_sentence_is_tested_and_not_trained_on(config):
    whole = data_of(config, *WORDS)
    every = sentences(whole.test)
    assert len(set(every)) == 10
    for i in range(10):
        data = data_of(config, *SENTIMENT, f"data.left_out={i}", "data.batch_size=4")
        met = [tuple(row.tolist()) for tokens, _ in data.train_dataloader() for row in tokens]
        assert sorted(met) == sorted(every[:i] + every[i + 1 :])
        assert sentences(data.test) == [every[i]]
        assert data.words == whole.words, "its words are not in the vocabulary"
    assert "stumble" not in whole.words, "only a labeled sentence has this word"


HEADER = "text,label,split\n"
PLAIN = "good film cast,,\nbad film plot,,\n"
LABELED = "good cast,positive,train\nbad plot,negative,test\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["data.root=", "cannot be read: No such file"]),
        (b"text,label,split\ngr\xfc\xdf,,\n", ["not a CSV file in UTF-8"]),
        (HEADER + 'a good "film,,\n"x', ["not a CSV file in UTF-8"]),
        ("text,label\ngood film,\n", ["names no column split", "text,label,split"]),
        (HEADER + PLAIN + "a film, good,positive,train\n", ["line 4", "in quotes"]),
        (HEADER + PLAIN + "good\n", ["line 4", "the same number of fields"]),
        (
            HEADER + PLAIN + "good,positiv,train\n",
            ["line 4: label=positiv", "negative, positive or empty"],
        ),
        (HEADER + PLAIN + "good,positive,val\n", ["line 4: split=val", "train or test"]),
        (
            HEADER + "good film,,train\n",
            ["line 2: split=train", "must be empty, like the label"],
        ),
        (
            HEADER + PLAIN + "what is it,positive,train\n",
            ["line 4: text=what is it", "not stop words"],
        ),
        (HEADER + LABELED, ["every row has a label"]),
        (
            HEADER + PLAIN + LABELED.replace("test", "train"),
            ["no row with a label has split=test"],
        ),
    ],
)
def test_broken_review_file_is_explained(config, tmp_path, content, words):
    path = tmp_path / "mine.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        data_of(config, *SENTIMENT, f"data.root={path}")
    assert "\n" not in str(error.value)
    for word in (str(path), *words):
        assert word in str(error.value)


def test_own_review_file_is_read(config, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(
        "\ufeff" + HEADER + PLAIN + LABELED, encoding="utf-8"
    )  # as spreadsheets write it
    data = data_of(config, *SENTIMENT, f"data.root={path}")
    assert data.words == ["film", "bad", "cast", "good", "plot"]
    assert sentences(data.train) == [(4, 3, 0)]
    path.write_text(HEADER + PLAIN + LABELED.replace("test", "train"))
    assert len(data_of(config, *WORDS, f"data.root={path}").test) == 2, "all labeled ones"
    with pytest.raises(
        UserError, match=r"data\.left_out=2: .*mine\.csv has 2 sentences with labels, 0 to 1"
    ):
        data_of(config, *SENTIMENT, f"data.root={path}", "data.left_out=2")


def test_projector_holds_each_word_with_its_vector(words_run):
    (folder,) = [path.parent for path in words_run.rglob("tensors.tsv")]
    shown = np.loadtxt(folder / "tensors.tsv")
    checkpoint = runs.load_checkpoint(runs.last_checkpoint(words_run))
    assert (folder / "metadata.tsv").read_text().split() == checkpoint["Reviews"]["words"]
    assert np.allclose(shown, checkpoint["state_dict"]["center.weight"][1:], atol=1e-6)
    assert "words" in (words_run / "projector_config.pbtxt").read_text()


def test_nearest_words_are_logged(words_run):
    events = EventAccumulator(str(words_run))
    events.Reload()
    (event,) = events.Tensors("nearest_neighbors/text_summary")
    lines = event.tensor_proto.string_val[0].decode().splitlines()
    assert len(lines) == 10
    assert f"nearest words to {lines[0].strip()}" in (words_run / "train.log").read_text()


def test_nearest_words_of_known_vectors():
    table = torch.tensor([[1.0, 0.0], [9.0, 1.0], [0.0, 1.0], [-1.0, 0.1]])
    assert nearest_words(table, ["a", "b", "c", "d"], n=2, each=2) == {
        "a": ["b", "c"],
        "b": ["a", "c"],
    }


def test_words_with_shared_contexts_become_neighbors(config, tmp_path):
    """Two groups of words never occur together, so the neighbors are known."""
    rng = np.random.default_rng(0)
    worlds = [[f"{side}{letter}" for letter in "abcd"] for side in ("x", "y")]
    rows = [f"{' '.join(rng.permutation(worlds[i % 2])[:3])},," for i in range(40)]
    (tmp_path / "worlds.csv").write_text(
        HEADER + "\n".join(rows) + "\n" + "xa,positive,train\nya,negative,test\n"
    )
    cfg = config(
        *WORDS,
        f"data.root={tmp_path / 'worlds.csv'}",
        "trainer.max_epochs=30",
        "callbacks=none",
        "logger=csv",
    )
    train(cfg, saved(cfg, tmp_path / "run"))
    words = runs.load_checkpoint(runs.last_checkpoint(tmp_path / "run"))["Reviews"]["words"]
    for word, near in nearest_words(
        weights_of(tmp_path / "run")["center.weight"][1:], words, n=8, each=3
    ).items():
        assert {other[0] for other in near} == {word[0]}


def test_word_vectors_need_no_labels(config, tmp_path):
    file = tmp_path / "all.csv"
    file.write_text("text,label,split\ngood warm film,,\nbad dull story,,\ngood bright story,,\n")
    cfg = config(*WORDS, f"data.root={file}", "trainer.max_epochs=1", "logger=csv")
    metrics = train(cfg, saved(cfg, tmp_path / "run"))
    assert metrics["batches"] == 1
    assert "test/loss" not in metrics
