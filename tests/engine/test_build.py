"""Building a run does not change its config."""

from src.train import train
from tests.conftest import TINY, TINY_NETS, saved


def test_training_does_not_change_the_config(config, tmp_path):
    cfg = config(*TINY, *TINY_NETS, "trainer.max_epochs=1", "test=false")
    before = cfg.copy()
    train(cfg, saved(cfg, tmp_path / "run"))
    assert cfg == before


def test_gradient_clipping_does_not_change_the_config(config):
    from src.engine import build

    cfg = config(*TINY, "model=fc", "trainer.gradient_clip_val=1", "data.num_classes=10")
    before = cfg.copy()
    model = build.model(cfg)
    assert cfg == before
    assert not model.configure_optimizers().defaults["fused"]
