"""Progress bars and lines."""

import logging
import sys
from types import SimpleNamespace

import pytest

from src.callbacks.progress import Progress, format_rate, format_seconds


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0.31, "0.31 images/s"),
        (4.25, "4.2 images/s"),
        (10.4, "10 images/s"),
        (1234, "1,234 images/s"),
    ],
)
def test_slow_rates_keep_two_digits(rate, text):
    assert format_rate(rate) == text


def test_long_times_are_whole_seconds():
    times = [format_seconds(seconds) for seconds in (0.31416, 99.96, 1234.5, 86_400)]
    assert times == ["0.314", "100", "1,234", "86,400"]


def trainer(**more):
    values = {"is_global_zero": True, "testing": False, "num_val_batches": [3]}
    return SimpleNamespace(**{**values, "num_test_batches": [2], **more})


def test_long_validation_and_test_write_lines(caplog):
    caplog.set_level(logging.INFO)
    progress = Progress(every_n_seconds=1e-9)
    progress.on_validation_start(trainer(), None)
    progress.on_validation_batch_end(trainer(), None)
    progress.on_validation_end(trainer(), None)
    progress.on_test_start(trainer(testing=True), None)
    progress.on_test_batch_end(trainer(testing=True), None)
    assert caplog.messages == ["validation batch 1/3", "test batch 1/2"]
    quick = Progress(every_n_seconds=10)
    quick.on_validation_start(trainer(), None)
    quick.on_validation_batch_end(trainer(), None)
    assert len(caplog.messages) == 2, "a short validation writes none"


def test_validation_has_a_bar_on_a_terminal_that_disappears(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = Progress()
    progress.on_validation_start(trainer(), None)
    bar = progress.stage_bar
    assert (bar.total, bar.desc, bar.leave) == (3, "validation", False)
    progress.on_validation_batch_end(trainer(), None)
    assert bar.n == 1
    progress.on_validation_end(trainer(), None)
    assert progress.stage_bar is None
