"""Counts in messages."""

import pytest

from src.core.counts import count


@pytest.mark.parametrize(
    ("n", "noun", "words"),
    [
        (0, "image", "0 images"),
        (1, "image", "1 image"),
        (1, "class", "1 class"),
        (2, "class", "2 classes"),
        (2, "batch", "2 batches"),
        (2, "epoch", "2 epochs"),
        (3, "canvas", "3 canvases"),
        (2, "augmented copy", "2 augmented copies"),
    ],
)
def test_a_noun_is_in_the_plural_unless_there_is_one(n, noun, words):
    assert count(n, noun) == words
