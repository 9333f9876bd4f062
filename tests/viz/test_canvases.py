"""Canvases of a model that draws step by step, as strips and frames."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from src.callbacks import canvases as callback
from src.viz import canvases as drawn
from src.viz.canvases import Canvases


def test_canvas_frames_show_windows_in_their_colors():
    """A 10 x 10 blank canvas twice; the write window of the second frame has corners (2, 3) and (6,
    8)."""
    corners = torch.tensor([[[2.0, 3, 6, 8, 0.1]]])
    canvases = Canvases(torch.zeros(2, 1, 1, 10, 10), {"write": corners})
    first, second = drawn.canvas_frames(canvases, scale=2)
    assert first.shape == (24, 24, 3)
    assert (first[2:22, 2:22] == 0).all(), "nothing is written to make the blank canvas"
    red = np.argwhere(second[2:22, 2:22, 0] > 200)
    assert red.min(0).tolist() == [5, 7], "the center of pixel 2 is 2.5, at twice the size"
    assert red.max(0).tolist() == [13, 17]
    assert len(red) == 2 * 9 + 2 * 11 - 4, "a border of one"
    thick = drawn.canvas_frames(
        Canvases(canvases.frames, {"write": corners + torch.tensor([0, 0, 0, 0, 3.0])}), scale=2
    )[1]
    assert (thick[..., 0] > 200).sum() > len(red) + 20, "a wide sigma has a wide border"


@pytest.mark.parametrize("size", [1e9, torch.inf, torch.nan])
def test_windows_of_a_diverging_run_are_no_error(size):
    windows = torch.tensor([-size, -size, size, size, size]).view(1, 1, 5)
    strip = drawn.canvas_strip(Canvases(torch.full((2, 1, 1, 4, 4), 0.5), {"write": windows}))
    assert (strip[2:10, 12:20] == 128).all(), "no border crosses the canvas"


def test_reconstructions_are_below_their_images():
    images = torch.linspace(0, 0.9, 10).view(10, 1, 1, 1).expand(10, 1, 4, 4)
    pages = drawn.canvas_frames(Canvases(torch.ones(3, 10, 1, 4, 4), {}, images), scale=1)
    assert len(pages) == 3
    assert pages[0].shape == (4 * 6 + 2, 8 * 6 + 2, 3), "eight and two in a row, twice"
    shown = [int(pages[0][2 + 12 * (i // 8), 2 + 6 * (i % 8), 0]) for i in range(10)]
    assert shown == pytest.approx([25.5 * i for i in range(10)], abs=1)


def test_strip_has_one_row_per_image():
    strip = drawn.canvas_strip(
        Canvases(torch.zeros(65, 9, 3, 5, 5), {}, torch.zeros(9, 3, 5, 5)), scale=1
    )
    assert strip.shape == (8 * 7 + 2, 17 * 7 + 2, 3)


def test_bars_of_a_hundred_steps_are_in_the_order_of_the_steps(monkeypatch):
    bars = []
    monkeypatch.setattr(callback, "progress_caption", lambda trainer: "")
    monkeypatch.setattr(
        callback.charts, "draw_bars", lambda values, *args, **more: bars.append(values)
    )
    kl = {f"val_steps/kl_nats_{t:02d}": torch.tensor(float(t)) for t in range(1, 101)}
    trainer = SimpleNamespace(callback_metrics=kl, is_global_zero=True, loggers=[])
    callback.CanvasSequences(1, n=1, seed=0).on_validation_end(trainer, None)
    assert bars == [list(range(1, 101))]
