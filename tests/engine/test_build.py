"""Building a run does not change its config."""

import logging

import pytest

from src.engine import build, runtime
from src.train import train
from tests.conftest import TINY, TINY_NETS, saved


def test_training_does_not_change_the_config(config, tmp_path):
    cfg = config(*TINY, *TINY_NETS, "trainer.max_epochs=1", "test=false")
    before = cfg.copy()
    train(cfg, saved(cfg, tmp_path / "run"))
    assert cfg == before


def test_only_the_warning_about_a_missing_gpu_is_silenced():
    runtime.quiet()
    log = logging.getLogger("torch.utils.cpp_extension")
    gpu = "No CUDA runtime is found, using CUDA_HOME='%s'"
    passed = [log.filter(logging.makeLogRecord({"msg": words})) for words in (gpu, "other")]
    assert [bool(record) for record in passed] == [False, True]


def test_gradient_clipping_does_not_change_the_config(config):
    from src.engine import build

    cfg = config(*TINY, "model=fc", "trainer.gradient_clip_val=1", "data.num_classes=10")
    before = cfg.copy()
    model = build.model(cfg)
    assert cfg == before
    assert not model.configure_optimizers().defaults["fused"]


@pytest.mark.parametrize(
    ("settings", "fused"),
    [
        (("model=draw", "trainer.precision=32-true"), True),
        (("model=draw", "trainer.precision=bf16-mixed"), True),
        (("model=draw", "trainer.precision=16-mixed"), False),  # it would clip scaled gradients
        (("model=draw", "trainer.precision=16-mixed", "model.clip_norm=null"), True),
        (("model=vae", "trainer.precision=16-mixed"), True),
        (("model=vae", "trainer.gradient_clip_val=1"), False),
    ],
)
def test_an_optimizer_is_fused_unless_gradients_are_clipped_before_it_unscales(
    config, settings, fused
):
    model = build.model(config(*TINY, *settings, "data=digits"))
    assert model.configure_optimizers().defaults["fused"] == fused
