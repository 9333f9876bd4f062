"""Pictures of weights, and when callbacks draw."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from src.callbacks import weights
from src.callbacks.trainer_state import is_due, is_last_validation
from src.nets.init import spectral_norm


def test_pictures_of_filters_do_not_change_spectral_norm():
    """In training, reading a normalized weight moves the estimate of its norm."""
    layer = spectral_norm(nn.Sequential(nn.Conv2d(1, 4, 3)))[0]
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    for _ in range(3):
        assert weights._filters(layer).shape == (4, 1, 3, 3)
    assert layer.training
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_the_range_above_filters_is_that_of_the_drawn_channel(monkeypatch):
    monkeypatch.setattr(weights, "add_title", lambda tile, title: title)
    monkeypatch.setattr(weights, "progress_caption", lambda trainer: "")
    layer = torch.nn.Conv2d(16, 8, 3)
    with torch.no_grad():
        layer.weight[:, 0] = torch.linspace(-0.25, 0.5, 9).view(3, 3)
        layer.weight[:, 1:] = 9
    title = weights._picture(None, "conv", layer, 24)
    assert title.startswith("conv (Conv2d), channel 1 of 16\nweights -0.25 to +0.50\n")


@pytest.mark.parametrize(("every", "expected"), [(5, [1, *range(5, 41, 5)]), (40, [1, 16, 32, 40])])
def test_weights_are_written_at_multiples_of_the_interval(monkeypatch, every, expected):
    shown = []
    callback = weights.Weights(every)
    callback._show = lambda trainer, model: shown.append(trainer)
    monkeypatch.setattr(weights, "progress", lambda trainer: SimpleNamespace(batch=trainer))
    for batch in range(1, 41):
        callback.on_train_batch_end(batch, None, None, None, 0)
    assert shown == expected


def test_pictures_are_due_at_powers_of_two_and_intervals():
    assert [n for n in range(1, 301) if is_due(n, 100)] == [1, 2, 4, 8, 16, 32, 64, 100, 200, 300]


@pytest.mark.parametrize(
    ("every", "epochs", "last"), [(1, 3, 3), (2, 4, 4), (5, 12, 10), (2, -1, None), (1, None, None)]
)
def test_last_validation_is_detected(every, epochs, last):
    trainer = SimpleNamespace(should_stop=False, max_epochs=epochs, check_val_every_n_epoch=every)
    validated = range(every, 20, every)
    found = []
    for epoch in validated:
        trainer.current_epoch = epoch - 1
        if is_last_validation(trainer):
            found.append(epoch)
    assert (found or [None])[0] == last
