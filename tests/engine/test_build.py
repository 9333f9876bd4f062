"""Building a run does not change its config; automatic settings follow the hardware."""

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


@pytest.mark.parametrize(
    ("cpu", "fast"),
    [
        ("vendor_id : GenuineIntel\nflags : avx512f avx512_bf16", False),
        ("vendor_id : GenuineIntel\nflags : avx512f avx512_bf16 amx_bf16 amx_tile", True),
        ("vendor_id : AuthenticAMD\nflags : avx512f avx512_bf16", True),
        ("vendor_id : AuthenticAMD\nflags : avx2", False),
        ("", False),
    ],
)
def test_bf16_is_the_default_only_on_cpus_where_it_is_faster(cpu, fast):
    assert runtime.has_fast_bf16(cpu) == fast
