"""Words on sheets of images."""

import numpy as np
import torch

from src.viz import captions
from src.viz.canvases import COLORS, Canvases, captioned_frames, captioned_strip


def test_an_image_of_extreme_aspect_keeps_a_pixel():
    picture = captions.draw_captioned(torch.zeros(1, 1, 2, 600), ["a"])
    assert (picture[8:, 8 : 8 + 256] == 0).all(1).any(), "a row of 256 pixels"


def test_title_is_above_the_picture_and_leaves_it_unchanged():
    sheet = np.full((50, 300), 77, np.uint8)
    titled = captions.add_title(sheet, "samples\nafter 1,200 batches (epoch 3)", ["A", "A to B"])
    assert titled.shape[1:] == (300, 3)
    assert (titled[-50:] == 77).all()
    words = titled[:-50] < 128
    assert words.any()
    for column in (words[-20:, :150], words[-20:, 150:]):
        assert column.any(), "each column has its header"


def test_titles_of_a_series_have_the_same_size_at_every_step():
    sheet = np.zeros((50, 60), np.uint8)
    sizes = {
        captions.add_title(sheet, f"x\nafter {n:,} batches (epoch {e})").shape
        for n, e in ((1, 1), (999_999, 999))
    }
    assert sizes == {(50 + 2 * captions.MARGIN + 2 * captions.LINE, captions.MIN_TITLE, 3)}


def test_right_predictions_do_not_repeat_their_class(monkeypatch):
    said = []
    monkeypatch.setattr(
        captions, "draw_captioned", lambda images, texts, **rest: said.extend(texts)
    )
    captions.draw_predictions(
        torch.zeros(2, 1, 4, 4),
        torch.tensor([0, 1]),
        torch.tensor([0, 0]),
        torch.tensor([0.9, 0.8]),
        ["cat", "dog"],
    )
    assert said == ["cat 90%", "cat 80%\n(is dog)"]


def test_canvases_have_steps_a_legend_and_a_marked_target():
    windows = torch.tensor([0.0, 0, 3, 3, 1]).repeat(2, 1, 1)
    canvases = Canvases(torch.zeros(3, 1, 1, 8, 8), {"write": windows}, torch.zeros(1, 1, 8, 8))
    frames = captioned_frames(canvases, "reconstructions")
    assert len({frame.shape for frame in frames}) == 1
    strip = captioned_strip(canvases, "reconstructions")
    for picture in (*frames, strip):
        assert (picture[:60] == COLORS["write"]).all(2).any(), "the legend"
    assert ((strip[-20:] == (0, 90, 220)).all(2)).any(), "the frame of the target"
    blank = Canvases(canvases.frames, {}, None)
    assert not (captioned_strip(blank, "samples") == COLORS["write"]).all(2).any()


def test_feature_maps_are_drawn_below_the_name_of_their_layer(monkeypatch):
    said = []
    monkeypatch.setattr(captions.fonts, "write", lambda draw, place, text, *_: said.append(text))
    maps = {"net.conv2": torch.tensor([[[3.0, 7.0], [5.0, 3.0]], [[0.0, 0.0], [0.0, 1.0]]])}
    picture = captions.draw_feature_maps(torch.zeros(3, 8, 8), maps, "feature maps", side=8, gap=2)
    assert said == ["image", "net.conv2: 2x2 pixels", "feature maps"]
    row = picture[-8:, :, 0]
    first = [[0, 255], [128, 0]]
    assert np.array_equal(row[:, 2:10], np.kron(first, np.ones((4, 4))))
    assert np.array_equal(row[:, 12:20], np.kron([[0, 0], [0, 255]], np.ones((4, 4))))
    assert (row[:, 20:] == 255).all()
    assert (picture[:-8, 2:10] == 0).all((1, 2)).sum() == 8, "the image"
