"""Learning rate schedules against known points and PyTorch, and early stopping."""

import pytest
import torch

from src.callbacks.reproducibility import Reproducibility
from src.core.errors import UserError
from src.core.randomness import derive_seed
from src.engine import build
from src.optim import schedules
from src.train import train
from tests.conftest import TINY, saved


def test_schedules_at_known_points():
    assert schedules.constant(0.7) == 1
    assert [schedules.linear(p) for p in (0, 0.25, 1)] == [1, 0.75, 0]
    assert [schedules.linear(p, start=0.5, end=0.2) for p in (0.5, 0.75, 1)] == [
        1,
        pytest.approx(0.6),
        pytest.approx(0.2),
    ]
    assert [schedules.cosine(p) for p in (0, 0.5, 1)] == [1, pytest.approx(0.5), pytest.approx(0)]
    assert [schedules.cosine(p, warmup=0.1) for p in (0.05, 0.1)] == [0.5, 1]
    assert [schedules.step(p, (0.5, 0.75), 0.1) for p in (0.4, 0.5, 0.8)] == [
        1,
        0.1,
        pytest.approx(0.01),
    ]


def test_one_cycle_equals_pytorch():
    optimizer = torch.optim.SGD([torch.zeros(1)], 1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        1.0,
        total_steps=100_000,
        pct_start=0.3,
        div_factor=25,
        final_div_factor=1e12,
        cycle_momentum=False,
    )
    for batch in range(99_999):
        if batch % 1000 == 0:
            assert schedules.one_cycle(batch / 100_000) == pytest.approx(
                reference.get_last_lr()[0], abs=1e-4
            )
        optimizer.step()
        reference.step()


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_equals_pytorch(mode):
    optimizer = torch.optim.SGD([torch.zeros(1)], 1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode=mode,
        factor=0.5,
        patience=2,
        threshold=0.01,
        threshold_mode="abs",
        min_lr=0.1,
        eps=0,
    )
    actual = schedules.Plateau(None, mode, factor=0.5, patience=2, min_delta=0.01, min_factor=0.1)
    noise = torch.Generator().manual_seed(0)
    factors = set()
    for i in range(60):
        value = 1 / (1 + i) + torch.rand((), generator=noise).item() / 2
        reference.step(value)
        actual.observe(value)
        assert actual(0.5) == reference.optimizer.param_groups[0]["lr"]
        factors.add(actual(0.5))
    assert min(factors) == 0.1
    assert len(factors) >= 4


WATCHED = (
    *TINY,
    "model=fc",
    "data.val_size=50",
    "test=false",
    "trainer.max_epochs=20",
    "model.optimizer.lr=1e-9",
)


def test_early_stopping_ends_training(config, tmp_path):
    """A net that learns nothing stops after one epoch plus a patience of three; so does a resumed
    run."""
    cfg = config(*WATCHED, "callbacks=[none,early_stopping]", "callbacks.early_stopping.patience=3",
                 "callbacks.early_stopping.min_delta=1e-3")  # fmt: skip
    values = train(cfg, saved(cfg, tmp_path))
    assert values["batches"] == 4 * 4
    cfg.resume = str(tmp_path)
    assert train(cfg, tmp_path)["batches"] == 4 * 4


@pytest.mark.parametrize("who", ["model/schedule=plateau", "callbacks=[none,early_stopping]"])
def test_missing_monitor_is_named(config, tmp_path, who):
    key = "model.schedule" if "schedule" in who else "callbacks.early_stopping"
    cfg = config(*WATCHED, who, f"{key}.monitor=val/los", f"{key}.mode=min")
    with pytest.raises(
        UserError, match=rf"^{key}\.monitor=val/los is not logged; .*did you mean val/loss\?"
    ):
        train(cfg, tmp_path)
    cfg = config(*WATCHED, who, f"{key}.monitor=test/acc")
    with pytest.raises(
        UserError, match=rf"^{key}\.monitor=test/acc is not logged"
    ):  # no epoch is chosen on the test set
        train(cfg, tmp_path)
    for given in (
        "data.val_size=0",
        "trainer.limit_val_batches=0",
        "trainer.check_val_every_n_epoch=99",
    ):
        cfg = config(*WATCHED, who, given)
        with pytest.raises(UserError, match=f"there is no validation: {given}; set "):
            train(cfg, tmp_path)


def test_plateau_lowers_the_learning_rate_of_a_run(config, tmp_path):
    cfg = config(*WATCHED, "model/schedule=plateau", "model.schedule.patience=1",
                 "model.schedule.min_delta=1e-3",
                 "trainer.max_epochs=6", "trainer.log_every_n_steps=1")  # fmt: skip
    train(cfg, tmp_path)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("train/lr")
    rates = [float(line.split(",")[column]) for line in lines[1:]]
    assert rates[::4] == [pytest.approx(rate) for rate in (1e-9, 1e-9, 1e-9, 1e-10, 1e-10, 1e-11)]


def test_batch_seeding_ignores_missing_accelerators(config, tmp_path):
    """torch.manual_seed stores a stack trace per accelerator at every call: slow, and memory
    grows."""
    queued = len(torch.cuda._queued_calls)
    train(config(*WATCHED, "trainer.max_epochs=1"), tmp_path)
    assert len(torch.cuda._queued_calls) <= queued + 2  # train.py's own seed of the weights
    trainer = build.trainer(config(*WATCHED), tmp_path)
    next(callback for callback in trainer.callbacks if isinstance(callback, Reproducibility))._seed(
        trainer, "val", 3
    )
    drawn = torch.rand(5)
    torch.manual_seed(derive_seed(0, "val", 0, 3, 0))
    assert torch.equal(drawn, torch.rand(5))
