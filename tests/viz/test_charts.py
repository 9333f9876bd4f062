"""Charts with axes and words: what they say, where the marks are, and how large they are."""

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image

from src.core.types import PICTURES
from src.viz import axes, charts, grids


@pytest.fixture
def figures(monkeypatch):
    """Return the list of the figures that the test draws."""
    drawn, pixels = [], axes._pixels
    monkeypatch.setattr(axes, "_pixels", lambda figure: drawn.append(figure) or pixels(figure))
    return drawn


def words(figure):
    from matplotlib.text import Text

    return {text.get_text() for text in figure.findobj(Text) if text.get_text()}


def is_clipped(figure):
    """Return whether words or marks lie partly outside the picture."""
    box = figure.get_tightbbox()  # in inches
    width, height = figure.get_size_inches()
    return box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height


@pytest.mark.parametrize("suffix", PICTURES)
def test_a_picture_file_has_the_format_of_its_name(suffix, tmp_path):
    path = tmp_path / f"a{suffix.upper()}"
    grids.save_picture(np.full((4, 6, 3), 200, np.uint8), path)
    drawn = axes.draw_file(60, 40, [], lambda figure: None, suffix[1:])
    for file in (path, io.BytesIO(drawn)):
        with Image.open(file) as picture:
            assert picture.format == Image.registered_extensions()[suffix]


def test_upright_bars_are_proportional_and_numbered(figures):
    picture = charts.draw_bars([1.0, 2.0, 0.0], "KL", x_label="step", y_label="nats")
    assert picture.dtype == np.uint8
    bars = [bar.get_height() for bar in figures[0].axes[0].patches]
    assert bars == [1, 2, 0]
    blue = (picture == (0x4C, 0x72, 0xB0)).all(2).sum(0)
    assert blue.max() > 100
    assert {"KL", "step", "nats", "1", "2", "0"} <= words(figures[0])
    assert not is_clipped(figures[0])


def test_bars_of_classes_show_their_names_values_and_intervals(figures):
    names = ["cat", "a name of a class that is much longer than all the others in this chart"]
    charts.draw_bars(
        [0.985, 0.5], "test: accuracy", names, [(0.9, 1.0), (0.4, 0.6)], "accuracy", form=".1%"
    )
    said = words(figures[0])
    assert {"test: accuracy", "cat", "98.5%", "50.0%", "accuracy"} <= said
    assert any(word.startswith("a name of a class") and word.endswith("...") for word in said)
    assert not is_clipped(figures[0])
    (lines,) = [c for c in figures[0].axes[0].collections if len(c.get_segments()) == 2]
    ends = [segment[:, 0].tolist() for segment in lines.get_segments()]
    assert np.allclose(ends, [(0.9, 1.0), (0.4, 0.6)])


def test_confusion_matrix_has_axes_title_counts_and_a_color_bar(figures):
    counts = torch.tensor([[100, 0], [25, 75]])
    charts.draw_confusion(counts, ["$a$", "bed\udcff"], "test: 25 of 200 wrong")
    said = words(figures[0])
    assert {"predicted class", "true class", "test: 25 of 200 wrong"} <= said
    assert {"100\n100%", "25\n25%", "75\n75%", "share of the true class"} <= said
    assert {"$a$", "bed\\udcff"} <= said
    assert not is_clipped(figures[0])
    shares = figures[0].axes[0].images[0].get_array()
    assert shares.tolist() == [[1, 0], [0.25, 0.75]]


@pytest.mark.parametrize("n", [2, 37, 300])
def test_charts_stay_small_for_many_classes(n, figures):
    names = [f"class number {k}" for k in range(n)]
    picture = charts.draw_confusion(torch.ones(n, n, dtype=torch.int64), names, "x")
    assert max(picture.shape) < 1600
    assert ("class number 1" in words(figures[0])) == (n <= 100)
    assert not is_clipped(figures[0])


def test_plane_puts_points_at_their_coordinates(figures):
    points, decoded = torch.tensor([[0.1, 0.1], [0.9, 0.8]]), np.zeros((200, 200), np.uint8)
    charts.draw_plane(decoded, points, torch.tensor([0, 1]), ["a", "b"])
    images, scatter = figures[0].axes
    assert np.allclose(scatter.collections[0].get_offsets(), points)
    assert images.images[0].get_extent() == [0, 1, 0, 1]
    assert {"a", "b", "quantile of z_1", "quantile of z_2"} <= words(figures[0])
    assert not is_clipped(figures[0])
    charts.draw_plane(decoded, points, torch.tensor([0, 0]), [])
    assert "●" not in words(figures[1]), "no legend without classes"
    charts.draw_points(points, torch.tensor([0, 1]), ["a", "b"], side=200)
    assert len(figures[2].axes) == 1
    assert not is_clipped(figures[2])


def test_logarithmic_axes_have_plain_numbers(figures):
    def paint(figure):
        axis = axes.place(figure, 50, 10, 200, 200)
        axis.plot([1e-5, 1e-1], [0.001, 100])
        axes.use_log_scale(axis, "x")
        axes.use_log_scale(axis, "y")

    axes.draw(300, 250, [], paint)
    assert {"1e-05", "0.1", "0.001", "100"} <= words(figures[0])
    assert not any("$" in word for word in words(figures[0]))


def test_a_short_logarithmic_axis_has_numbers_between_powers_of_ten(figures):
    def paint(figure):
        axis = axes.place(figure, 50, 10, 200, 200)
        axis.plot([0.002, 0.05], [0, 1])
        axes.use_log_scale(axis, "x")

    axes.draw(300, 250, [], paint)
    assert {"0.003", "0.01", "0.03"} <= words(figures[0])


def test_charts_change_no_global_state():
    import matplotlib

    def state():
        numpy = np.random.get_state()[2]  # noqa: NPY002
        return torch.get_rng_state().tolist(), numpy, random.getstate()

    before, settings = state(), dict(matplotlib.rcParams)
    charts.draw_bars([1.0], "x", ["猫"])
    assert state() == before
    assert dict(matplotlib.rcParams) == settings
