"""The sentence classifier: its vectors, and leave-one-out evaluation."""

import shutil

import numpy as np
import pytest
import torch

from src.bench.leave_one_out import leave_one_out
from src.config.checks import check
from src.config.compose import compose
from src.core.errors import UserError
from src.engine import build
from src.evaluate import evaluate
from src.metrics.intervals import mean_interval
from src.models.sentiment import Sentiment
from src.models.word_vectors import WordVectors
from src.train import train
from tests.conftest import call, saved, weights_of
from tests.data.test_reviews import CPU, HEADER, LABELED, PLAIN, SENTIMENT, WORDS
from tests.engine.interruptions import assert_same_run, interrupted_and_resumed, uninterrupted_run

RESUMED = (
    "trainer.max_epochs=3",
    "trainer.log_every_n_steps=1",
    "model/schedule=cosine",
    "checkpoint.every_n_batches=null",
)


def test_sentence_vector_is_the_mean_of_its_words(config):
    cfg = config(*SENTIMENT)
    data = build.datamodule(cfg)
    model = build.model(cfg, data)
    tokens = data.test.tensors[0]
    table, (w1, b1, w2, b2) = (
        model.vectors.weight.detach().numpy(),
        [p.detach().numpy() for p in model.net.parameters()],
    )
    for row, logits in zip(tokens.tolist(), model(tokens), strict=True):
        mean = np.mean([table[k] for k in row if k], axis=0)
        assert np.allclose(logits.detach(), w2 @ np.tanh(w1 @ mean + b1) + b2, atol=1e-6)
    silent = model(torch.zeros(1, 5, dtype=torch.int64))
    assert np.allclose(silent.detach(), w2 @ np.tanh(b1) + b2, atol=1e-6), (
        "a sentence without a known word is the zero vector"
    )


@pytest.mark.parametrize("frozen", [True, False])
def test_vectors_start_from_the_run(config, tmp_path, words_run, frozen):
    cfg = config(
        *SENTIMENT,
        f"model.init_from={words_run}",
        f"model.freeze_vectors={frozen}",
        "trainer.max_epochs=2",
    )
    metrics = train(cfg, saved(cfg, tmp_path / "run"))
    actual, reference = (
        weights_of(tmp_path / "run")["vectors.weight"],
        weights_of(words_run)["center.weight"],
    )
    assert actual[0].eq(0).all()
    met = build.datamodule(cfg).train.tensors[0].unique()[1:]
    if frozen:
        assert torch.equal(actual[1:], reference[1:])
        assert metrics["parameters"] == 4 * 8 + 8 + 8 * 2 + 2
    else:
        assert (actual[met] != reference[met]).any(1).all(), (
            "each word of the training sentences has moved"
        )
        assert (actual - reference)[1:].abs().max() < 0.1, "they start from the vectors of the run"


def test_vectors_without_a_run_depend_on_the_seed(config):
    tables = [seeded(config, seed).vectors.weight for seed in (0, 0, 1)]
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


def seeded(config, seed):
    cfg = config(*SENTIMENT, f"seed={seed}")
    data = build.datamodule(cfg)
    torch.manual_seed(seed)
    return build.model(cfg, data)


def test_resume_works_without_the_source_run(config, tmp_path, words_run):
    """The checkpoint holds the vectors."""
    source = shutil.copytree(words_run, tmp_path / "source")
    cfg = config(*SENTIMENT, f"model.init_from={source}", "trainer.max_epochs=2")
    folder = saved(cfg, tmp_path / "run")
    metrics = train(cfg, folder)
    shutil.rmtree(source)
    evaluation = compose("evaluate", [f"run={folder}"])
    check(evaluation, "evaluate")
    assert evaluate(evaluation)["test/loss"] == pytest.approx(metrics["test/loss"])
    cfg.resume, cfg.trainer.max_epochs = str(folder), 3
    assert train(cfg, folder)["batches"] == 3
    assert torch.equal(
        weights_of(folder)["vectors.weight"][1:], weights_of(words_run)["center.weight"][1:]
    )


def test_mismatching_vectors_are_explained(config, tmp_path, words_run, gan_run):
    def line(*overrides):
        cfg = config(*SENTIMENT, *overrides)
        with pytest.raises(UserError) as error:
            train(cfg, tmp_path / "run")
        assert "\n" not in str(error.value)
        return str(error.value)

    (tmp_path / "mine.csv").write_text(HEADER + PLAIN + LABELED)
    mine = line(f"model.init_from={words_run}", f"data.root={tmp_path / 'mine.csv'}")
    assert "differs from that of the data (first difference: '" in mine
    assert "model.embedding_dim=3 does not fit" in line(
        f"model.init_from={words_run}", "model.embedding_dim=3"
    )
    assert "must be a run of model=word_vectors, not of a GAN" in line(f"model.init_from={gan_run}")
    assert "is not a run folder" in line(f"model.init_from={tmp_path / 'nowhere'}")


@pytest.mark.parametrize("cut", [4, 7])
def test_resume_at_any_batch_is_bit_exact(config, tmp_path, monkeypatch, cut):
    """12 batches, four per epoch: discarded words, windows and noise words are drawn again in the
    same way."""
    words = (*WORDS, *RESUMED, "data.batch_size=16", "model.subsample=0.02", "callbacks=none",
             "logger=csv",
             "test=false")  # fmt: skip
    labeled = (
        *SENTIMENT,
        *RESUMED,
        "data.batch_size=2",
        "model.freeze_vectors=false",
        "test=false",
    )
    for family, overrides in ((WordVectors, words), (Sentiment, labeled)):
        top = tmp_path / family.__name__
        uninterrupted = uninterrupted_run(top / "uninterrupted", overrides)
        with monkeypatch.context() as patch:
            assert_same_run(
                uninterrupted, interrupted_and_resumed(family, config(*overrides), top, patch, cut)
            )


def test_leave_one_out_equals_separate_runs(config, tmp_path, words_run, capsys):
    for seed in range(2):
        shutil.copytree(words_run, tmp_path / "sweep" / f"seed={seed}")
    few = (*CPU, "trainer.max_epochs=3", "model.freeze_vectors=false")
    out = tmp_path / "deep" / "answers.csv"
    right = np.array(
        call(
            "leave_one_out",
            leave_one_out,
            *few,
            "seeds=2",
            f"vectors={tmp_path / 'sweep'}",
            f"out={out}",
        )
    )
    assert right.shape == (2, 10)
    written = np.loadtxt(out, delimiter=",", skiprows=1, dtype=int)
    assert np.array_equal(written, np.column_stack([range(2), right]))
    message = capsys.readouterr().out
    assert all(
        f"seed {seed}: {sum(row)} of 10 right" in message for seed, row in enumerate(right.tolist())
    )
    spread = right.mean(1).std(ddof=1)
    assert f"accuracy {right.mean():.3f}, over 2 seeds ± {spread:.3f}" in message
    low, high = mean_interval(right.mean(0).tolist())
    assert f"{max(0, low):.3f} to {min(1, high):.3f}" in message
    for left_out in (0, 9):
        one = config(
            *SENTIMENT, *few, "seed=1", f"data.left_out={left_out}", f"model.init_from={words_run}"
        )
        assert train(one, tmp_path / str(left_out))["test/acc"] == right[1, left_out]


def test_leave_one_out_needs_a_run_for_each_seed(tmp_path, words_run):
    shutil.copytree(words_run, tmp_path / "seed=0")
    with pytest.raises(UserError, match=r"seed=1 is not a run folder"):
        call("leave_one_out", leave_one_out, "seeds=2", f"vectors={tmp_path}")


def test_leave_one_out_checks_the_output_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr("src.bench.leave_one_out._right", lambda *_: pytest.fail("it trained"))
    with pytest.raises(UserError, match=r"out=.* cannot be written: Is a directory"):
        call("leave_one_out", leave_one_out, "seeds=2", f"out={tmp_path}")


def test_mean_interval_equals_scipy():
    assert mean_interval([0.0, 1.0]) == pytest.approx(
        (0.5 - 12.7062 / 2, 0.5 + 12.7062 / 2), abs=1e-4
    )  # t table, 1 degree
    assert mean_interval([0.5] * 10) == (0.5, 0.5)
