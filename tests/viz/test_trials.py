"""Pictures of the trials of a sweep."""

import pytest

from src.viz import axes
from src.viz.trials import Trial, save_history, save_slices

TRIALS = [
    Trial(0, {"lr": "0.001", "loss": "bce"}, [3.0, 5.0], "finished"),
    Trial(2, {"lr": "0.1", "loss": "lsgan"}, [1.0, 2.0], "finished"),
    Trial(4, {"lr": "0.01", "loss": "bce"}, [], "pruned"),
]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Return a function that calls one of the two, and returns the figure."""
    figures, pixels = [], axes._pixels
    monkeypatch.setattr(axes, "_pixels", lambda figure: figures.append(figure) or pixels(figure))
    monkeypatch.setattr(axes, "draw_file", lambda *args: axes.draw(*args).tobytes())

    def call(save, *args):
        save(TRIALS, *args, tmp_path / "x.png")
        return figures[0]

    return call


def lines(axis):
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines
    }


def test_history_shows_seeds_means_the_best_and_what_did_not_finish(drawn):
    (axis,) = drawn(save_history, "val/loss (lower is better)", True).axes
    found = lines(axis)
    assert found["each seed"] == ([0, 0, 2, 2], [3, 5, 1, 2])
    assert found["mean over seeds"] == ([0, 2], [4, 1.5])
    assert found["best so far"] == ([0, 2], [4, 1.5])
    assert found["pruned"][0] == [4]


def test_the_best_is_the_largest_where_higher_is_better(drawn):
    (axis,) = drawn(save_history, "val/acc (higher is better)", False).axes
    assert lines(axis)["best so far"] == ([0, 2], [4, 4])


def test_slices_have_numbers_on_a_scale_and_words_side_by_side(drawn):
    rates, losses = drawn(save_slices, "val/loss").axes
    assert rates.get_xscale() == "log"
    assert lines(rates)["mean over seeds"] == ([0.001, 0.1], [4, 1.5])
    assert losses.get_xscale() == "linear"
    assert [label.get_text() for label in losses.get_xticklabels()] == ["bce", "lsgan"]
    assert lines(losses)["mean over seeds"] == ([0, 1], [4, 1.5])
