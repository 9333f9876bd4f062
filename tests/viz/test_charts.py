"""Bar charts."""

import pytest
import torch

from src.viz import charts


def test_bar_heights_are_proportional_to_values():
    picture = charts.draw_bars([1.0, 2.0, 0.0], "x")
    columns = [(picture[30:140, 60 + round(570 / 3 * (i + 0.4))] < 100).sum() for i in range(3)]
    assert columns[1] == pytest.approx(110, abs=2)
    assert columns[0] == pytest.approx(55, abs=2)
    assert columns[2] <= 1


def test_an_image_of_extreme_aspect_keeps_a_pixel():
    picture = charts.draw_captioned(torch.zeros(1, 1, 2, 600), ["a"])
    assert (picture[8:, 8 : 8 + 256] == 0).all(1).any(), "a row of 256 pixels"


def test_bars_have_names_and_intervals():
    picture = charts.draw_bars(
        [1.0, 1.0], "x", names=["a", "b"], intervals=[(0.5, 2.0), (1.0, 1.0)]
    )
    assert picture.shape == (160, 640)
    middle = picture[30:141, 60 + round(570 / 2 * 0.4)]
    line = (middle == 160).nonzero()[0]
    assert [line.min(), line.max()] == pytest.approx([0, 82.5], abs=2), (
        "from 2, the largest value, down to 0.5"
    )
    assert (picture[144:, 60:80] < 128).any()
    assert (picture[144:, 345:365] < 128).any()
    upright = charts.draw_bars([1.0, 1.0], "x", names=["a" * 60, "b"])
    assert len(upright) > 400, "names wider than their bars are upright"
    dark = (upright[144:] < 128).nonzero()
    short = dark[0][dark[1] > 300]
    assert short.max() < 20, "the short name is at its bar too"
    assert dark[0].max() > 300
    assert (upright[:140] == charts.draw_bars([1.0, 1.0], "x")[:140]).all()
