"""src.lr_finder, as a user calls it."""

import pytest
from pytorch_lightning.callbacks import Timer

from src.core.errors import UserError
from src.lr_finder import find_lr
from src.viz import lr_curve
from tests.conftest import TINY, call

SMALL = (*TINY, "data.batch_size=8", "trainer.max_epochs=1", "min_lr=1e-4", "max_lr=1000")


@pytest.mark.parametrize(
    "model", [("model=fc", "model.net.hidden_dims=[16,16]", "model/schedule=one_cycle"),
              ("model=fc", "model.net.hidden_dims=[16,16]", "model/schedule=plateau"),
              ("model=vae", "model.net.encoder.hidden_dims=[16]")]
)  # fmt: skip
def test_range_test_suggests_a_rate_and_draws_the_curve(model, tmp_path, capsys):
    picture = tmp_path / "curve.png"
    rate = call("lr_finder", find_lr, *model, *SMALL, "batches=40", f"picture={picture}")
    said = capsys.readouterr().out
    assert 1e-4 < rate < 1000
    assert f"suggestion: model.optimizer.lr={rate:.2g}" in said
    assert picture.stat().st_size > 5000
    assert list(tmp_path.iterdir()) == [picture]


def test_limits_of_a_run_do_not_end_the_test(monkeypatch):
    drawn = []
    monkeypatch.setattr(lr_curve, "save_lr_curve", lambda rates, *_: drawn.extend(rates))
    monkeypatch.setattr(Timer, "time_elapsed", lambda self, *stage: 2.0)
    call("lr_finder", find_lr, "model=fc", *TINY, "data.batch_size=8", "batches=20", "max_lr=1e-3",
         "trainer.limit_train_batches=2", "trainer.max_time='00:00:00:01'")  # fmt: skip
    assert len(drawn) == 20


def test_loss_that_is_never_finite_suggests_nothing(tmp_path, capsys):
    rate = call("lr_finder", find_lr, "model=fc", *TINY, "data.batch_size=8", "batches=20",
                "model.normalize.std=[1e-38]", "model.normalize.mean=[0]",
                f"picture={tmp_path / 'curve.png'}")  # fmt: skip
    said = capsys.readouterr().out
    assert rate is None
    assert "the loss exploded at" in said
    assert "the loss does not fall" in said


def test_model_with_two_optimizers_is_refused():
    with pytest.raises(UserError, match=r"a GAN has 2 optimizers \(d_lr, g_lr\)"):
        call("lr_finder", find_lr, "model=dcgan")
    with pytest.raises(UserError, match=r"min_lr=0\.1 must be below max_lr=0\.01"):
        call("lr_finder", find_lr, "model=cnn", "min_lr=0.1", "max_lr=0.01")
