"""The key metrics at the end of a run."""

import pytest

from src.metrics.key_metrics import key_metric_lines, select_key_metrics
from src.models.classifier import Classifier
from src.models.cyclegan import CycleGAN
from src.models.draw import DRAW
from src.models.gan import GAN
from src.models.style_transfer import StyleTransfer
from src.models.vae import VAE
from tests.conftest import ROOT

GAN_VALUES = {"val/fid_own": 9.0, "test/fid_own": 4.4, "test/fid_own_floor": 0.37,
              "test/precision": 0.7, "test/recall": 0.9, "test/coverage": 0.8,
              "test/least_class": 0.03, "test/d_loss": 0.5, "test/n": 360}  # fmt: skip


def test_key_metrics_say_what_is_better_with_interval_and_floor():
    lines = key_metric_lines(select_key_metrics(GAN_VALUES, GAN.key_metrics))
    assert [line.split()[:2] for line in lines] == [
        ["test/fid_own", "4.4"],
        ["test/precision", "0.7"],
        ["test/recall", "0.9"],
        ["test/coverage", "0.8"],
        ["test/least_class", "0.03"],
    ]
    assert lines[0].endswith("lower is better; 0.37 for training images")
    assert lines[1].endswith("higher is better")
    values = {"test/acc": 0.9, "test/acc_low": 0.85, "test/acc_high": 0.94, "val/loss": 0.2}
    first, second = key_metric_lines(select_key_metrics(values, Classifier.key_metrics))
    assert first.endswith("higher is better; 95% interval 0.85 to 0.94")
    assert second.split() == ["val/loss", "0.2", "lower", "is", "better"]


def test_without_key_metrics_all_of_the_latest_stage_are_shown():
    values = {"val/d_loss": 0.5, "test/d_loss": 0.4, "test/d_real": 1.0, "test/n": 9}
    shown = select_key_metrics(values, ("fid_own",))
    assert [(one.name, one.note) for one in shown] == [("test/d_loss", ""), ("test/d_real", "")]


@pytest.mark.parametrize("family", [Classifier, CycleGAN, DRAW, GAN, StyleTransfer, VAE])
def test_families_name_their_key_metrics(family):
    glossary = (ROOT / "docs" / "metrics.md").read_text()
    assert len(family.key_metrics) >= 4
    assert [name for name in family.key_metrics if f"`{name}`" not in glossary] == []
