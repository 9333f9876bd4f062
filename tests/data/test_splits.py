"""Training, validation and test keep class shares; missing classes are logged."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from src.core.errors import UserError
from src.core.randomness import generator
from src.data.images import ImageSet
from src.data.splits import split_off_test, stratified_split
from src.engine import build
from src.engine.checks import expect_test_set
from tests.conftest import TINY, data_of
from tests.data.test_split_folders import write


def shares(counts, n):
    """Return how many of `n` images each class gets by largest remainders (Hamilton)."""
    exact = np.array(counts) * n / sum(counts)
    whole = np.floor(exact).astype(int)
    for k in np.argsort(-(exact - whole), kind="stable")[: n - whole.sum()]:
        whole[k] += 1
    return whole.tolist()


@pytest.mark.parametrize("counts", [(50, 50), (70, 20, 10), (33, 33, 34), (5, 95), (97, 31, 7, 65)])
@pytest.mark.parametrize("n", [0, 1, 7, 20, 50, 99])
def test_stratified_split_keeps_class_shares_and_total(counts, n):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    order = torch.randperm(sum(counts), generator=generator(3, "x"))
    drawn, others = stratified_split(labels, order, n)
    assert len(drawn) == n
    assert sorted([*drawn.tolist(), *others.tolist()]) == list(range(sum(counts)))
    assert labels[drawn].bincount(minlength=len(counts)).tolist() == shares(counts, n)
    for k in range(len(counts)):
        in_class = [i for i in order.tolist() if labels[i] == k]
        mine = [i for i in drawn.tolist() if labels[i] == k]
        assert mine == in_class[: len(mine)], "the first of the order, which the seed decides"


def test_stratified_split_takes_the_last_image_of_a_class_only_if_forced():
    labels = torch.tensor([0] * 10 + [1])
    order = torch.arange(11)
    assert labels[stratified_split(labels, order, 5)[0]].tolist() == [0] * 5
    assert labels[stratified_split(labels, order, 11)[0]].sum() == 1


def test_unlabeled_split_is_a_random_split():
    images = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1)
    cut = split_off_test(ImageSet(images, torch.full((40,), -1)), 10, 5, "x")
    order = torch.randperm(40, generator=generator(5, "test"))
    assert cut.test.images.flatten().tolist() == sorted(order[:10].tolist())


@pytest.mark.parametrize("size", [0, 0.0])
def test_test_size_zero_is_allowed_but_not_a_rounded_zero(size):
    part = ImageSet(torch.zeros(9, 1, 1, 1, dtype=torch.uint8), torch.zeros(9, dtype=torch.int64))
    assert (
        len(split_off_test(part, size, 0, "x").train),
        len(split_off_test(part, size, 0, "x").test),
    ) == (9, 0)
    with pytest.raises(UserError, match=r"data\.test_size=0\.01 does not fit x"):
        split_off_test(part, 0.01, 0, "x")


def test_rare_class_is_in_every_set(config, tmp_path):
    write(tmp_path, "common", n=180)
    write(tmp_path, "rare", n=20)
    settings = ("model=fc", "data=folder", f"data.root={tmp_path}", "data.size=8")
    for seed in range(5):
        data = data_of(
            config, *settings, "data.val_size=0.1", "data.test_size=0.2", f"data.split_seed={seed}"
        )
        counts = [part.labels.bincount().tolist() for part in (data.train, data.val, data.test)]
        assert counts == [[130, 14], [14, 2], [36, 4]]
    some = data_of(config, *settings, "data.val_size=20", "data.train_size=40")
    assert some.train.labels.bincount().tolist() == [36, 4]
    even = data_of(config, *settings, "data.train_per_class=5")
    assert even.train.labels.bincount().tolist() == [5, 5]


def test_digits_are_split_by_class(config):
    data = data_of(config, "model=fc", "data=digits")
    all_labels = torch.cat([data.train.labels, data.val.labels, data.test.labels])
    whole = all_labels.bincount().double()
    for part, n in ((data.val, 180), (data.test, 360), (data.train, 1257)):
        assert len(part) == n
        assert (part.labels.bincount() - whole * n / 1797).abs().max() <= 1


def test_missing_classes_are_logged(config, tmp_path, caplog):
    caplog.set_level("INFO", logger="src")
    write(tmp_path, "many", n=40)
    write(tmp_path, "few", n=2)
    settings = ("model=fc", "data=folder", f"data.root={tmp_path}", "data.size=8")
    data_of(config, *settings, "data.val_size=4", "data.test_size=4")
    assert "folder: classes without images in validation: few; test: few" in caplog.text


def test_empty_test_set_needs_test_false(config, tmp_path):
    from src.train import train
    from tests.conftest import saved

    write(tmp_path / "in", "a", "b")
    cfg = config(
        "model=fc",
        "data=folder",
        f"data.root={tmp_path / 'in'}",
        *TINY,
        "data.size=8",
        "data.test_size=0",
        "data.val_size=0",
        "trainer.max_epochs=1",
        "data.batch_size=4",
    )
    with pytest.raises(UserError, match=r"data\.test_size=0 leaves nothing to test on; to train"):
        train(cfg, saved(cfg, tmp_path / "refused"))
    with pytest.raises(UserError, match="test_size=0 leaves nothing to test on; to train"):
        expect_test_set(build.datamodule(cfg), processes=2)
    one_sentence = SimpleNamespace(test=[0], holds="sentences")
    with pytest.raises(UserError, match="has 1 sentence to test on, fewer than the 2 processes"):
        expect_test_set(one_sentence, processes=2)
    expect_test_set(SimpleNamespace(test=[], holds="sentences"), processes=2)
    expect_test_set(SimpleNamespace(test=[0, 1], holds="a photograph and a style"), processes=4)
    cfg.test = False
    values = train(cfg, saved(cfg, tmp_path / "run"))
    assert values["batches"] == 3
    assert not [name for name in values if name.startswith("test/")]
