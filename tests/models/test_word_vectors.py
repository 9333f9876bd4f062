"""Word vectors: subsampling of frequent words and dynamic windows."""

import csv
import inspect

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from src.models.word_vectors import WordVectors, kept_shares, subsampled
from src.train import train
from tests.conftest import data_of, saved, weights_of
from tests.data.test_reviews import WORDS


def test_subsampled_discards_frequent_words_and_closes_gaps():
    rng = np.random.default_rng(0)
    counts = np.array([500, 300, 150, 40, 10])
    frequency = counts / counts.sum()
    kept = kept_shares(torch.from_numpy(counts), 0.05).numpy()
    assert kept[0] == 1
    assert kept[1:] == pytest.approx(np.minimum(1, 1 - (1 - np.sqrt(0.05 / frequency))), rel=1e-6)
    tokens, draws = np.zeros((2000, 7), int), rng.random((2000, 7), np.float32)
    expected = np.zeros_like(tokens)
    for row, own, left in zip(tokens, draws, expected, strict=True):
        row[:5] = rng.integers(1, 6, 5)
        stay = [word for word, draw in zip(row[:5], own, strict=False) if draw < kept[word]]
        left[: len(stay)] = stay
    actual = subsampled(*(torch.from_numpy(part) for part in (tokens, kept, draws)))
    assert np.array_equal(actual.numpy(), expected)
    share = (expected == 1).sum() / (tokens == 1).sum()
    assert share == pytest.approx(np.sqrt(0.05 / 0.5), abs=0.03)


def test_subsampling_and_dynamic_windows_apply_to_training_only(config, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        WordVectors,
        "_loss",
        lambda self, tokens, windows: (
            seen.append((tokens, windows)) or self.center.weight.sum() * 0
        ),
    )
    settings = ("model.subsample=0.01", "model.window=3", "trainer.max_epochs=2", "test=true")
    cfg = config(*WORDS, *settings, "callbacks=none", "logger=csv")
    train(cfg, saved(cfg, tmp_path / "run"))
    *training, (test_tokens, test_windows) = seen
    assert len(training) == 16
    windows = torch.cat([windows.flatten() for _, windows in training])
    counts = np.bincount(windows.numpy(), minlength=4)
    assert counts[0] == 0
    assert chisquare(counts[1:]).pvalue > 0.001
    words = sum(int((tokens > 0).sum()) for tokens, _ in training)
    plain = data_of(config, *WORDS)
    share = kept_shares(plain.counts, 0.01)[plain.train.tensors[0]][plain.train.tensors[0] > 0]
    assert words == pytest.approx(2 * float(share.sum()), rel=0.15)
    assert (test_windows == 3).all()
    assert torch.equal(test_tokens, plain.test.tensors[0])


def test_class_defaults_are_the_settings_of_the_paper(config, tmp_path):
    """With t = 1e-5 nearly all words of 62 sentences are discarded, but no loss is NaN."""
    defaults = inspect.signature(WordVectors).parameters
    assert defaults["subsample"].default == 1e-5
    assert defaults["dynamic_window"].default is True
    cfg = config(*WORDS, "model.subsample=1e-5", "data.batch_size=1", "trainer.max_epochs=2",
                 "callbacks=none", "logger=csv", "trainer.log_every_n_steps=1")  # fmt: skip
    folder = saved(cfg, tmp_path / "run")
    train(cfg, folder)
    with (folder / "metrics.csv").open(newline="") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert 0 in losses
    assert np.isfinite(losses).all()
    assert weights_of(folder)["center.weight"].isfinite().all()
