"""checkpoint.monitor: which checkpoint is the best, and that a cut does not change it."""

import os
import shutil

import pytest

from src.callbacks import best as best_module
from src.callbacks.best import BestCheckpoints, replace_by_link
from src.core import runs
from src.core.chosen_checkpoint import load_chosen
from src.core.errors import UserError
from src.engine.load import load_run
from src.evaluate import evaluate
from src.models.classifier import Classifier
from src.train import train
from tests.conftest import call, command, saved, wrong
from tests.engine.interruptions import (
    THREE_EPOCHS,
    assert_same,
    interrupted_and_resumed,
    uninterrupted_run,
)

# accuracy of the three epochs differs; a high rate makes it fall again
RUN = (*THREE_EPOCHS, "data=digits", "model=fc", "trainer.max_epochs=3")
BEST = (*RUN, "checkpoint.monitor=val/acc", "checkpoint.keep=2")
VALUES = (0.5, 0.9, 0.7)  # the metric at each of three validations


@pytest.fixture(scope="module")
def scripted():
    """Let val/score_loss be 1 - VALUES, so that the second epoch is the best."""
    measure = Classifier.on_validation_epoch_end

    def report(self):
        measure(self)
        self.log("val/score_loss", 1 - VALUES[self.trainer.current_epoch])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "on_validation_epoch_end", report)
        yield (*RUN, "checkpoint.monitor=val/score_loss", "checkpoint.keep=2")


@pytest.fixture(scope="module")
def whole(scripted, tmp_path_factory):
    """The folder of a run that nothing interrupts."""
    return uninterrupted_run(tmp_path_factory.mktemp("whole") / "run", scripted)


def files(folder):
    """Return {name: state} of the best checkpoints, without times."""
    found = {}
    for path in sorted((folder / "checkpoints").glob("b*.ckpt")):
        found[path.name] = runs.load_training(path)
        found[path.name].pop("train_metrics", None)
    return found


def test_the_best_and_the_k_best_are_kept_beside_the_last(scripted, config, tmp_path):
    cfg = config(*scripted)
    metrics = train(cfg, folder := saved(cfg, tmp_path / "run"))
    kept = files(folder)
    assert sorted(kept) == ["batch_12.ckpt", "batch_8.ckpt", "best.ckpt"]
    assert runs.batches_in(kept["best.ckpt"]) == 8
    assert runs.batches_in(runs.load_last(folder)) == 12
    assert (metrics["best/batches"], round(metrics["best/val/score_loss"], 6)) == (8, 0.1)


@pytest.mark.parametrize("cut", [1, 4, 7, 8, 9, 12])
def test_best_checkpoints_of_a_cut_run_are_bit_exact(
    scripted, whole, config, tmp_path, monkeypatch, cut
):
    folder = interrupted_and_resumed(Classifier, config(*scripted), tmp_path, monkeypatch, cut)
    assert_same(files(whole), files(folder))
    assert_same(runs.load_last(whole)["best"], runs.load_last(folder)["best"])


class Killed(BaseException):
    pass


@pytest.mark.parametrize("call_number", range(1, 7))
def test_a_kill_between_last_and_best_changes_neither(
    scripted, whole, config, tmp_path, monkeypatch, call_number
):
    """The process ends before the n-th link: last.ckpt is newer than the best ones then."""
    calls = []

    def killed(source, target):
        calls.append(target)
        if len(calls) == call_number:
            raise Killed
        replace_by_link(source, target)

    cfg = config(*scripted)
    folder = saved(cfg, tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr(best_module, "replace_by_link", killed)
        try:
            train(cfg, folder)
        except Killed:
            cfg.resume = str(folder)
    if cfg.resume:
        train(cfg, folder)
    assert_same(files(whole), files(folder))


def test_a_damaged_last_checkpoint_changes_the_best_in_no_way(scripted, whole, config, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "cut")
    (folder / "checkpoints" / "last.ckpt").unlink()
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"damaged")
    cfg = config(*scripted)
    cfg.resume = str(folder)
    train(cfg, folder)
    assert_same(files(whole), files(folder))


def test_keeping_the_best_changes_no_weight(config, tmp_path):
    with_best = uninterrupted_run(tmp_path / "a", BEST)
    without = uninterrupted_run(tmp_path / "b", RUN)
    assert not files(without)
    one, other = runs.load_last(with_best), runs.load_last(without)
    assert_same(one["state_dict"], other["state_dict"])


def test_early_stopping_keeps_and_offers_its_best(config, tmp_path):
    cfg = config(
        *RUN, "callbacks=[none,early_stopping]", "callbacks.early_stopping.patience=1",
        "callbacks.early_stopping.min_delta=1e9",
    )  # fmt: skip
    train(cfg, folder := saved(cfg, tmp_path / "run"))
    assert list(files(folder)) == ["best.ckpt"]
    lines = (folder / "train.log").read_text().splitlines()
    (last,) = [line for line in lines if " best         val/loss " in line]
    assert last.endswith("commands use it with which=best")


def test_which_best_loads_and_evaluates_the_best(scripted, config, tmp_path, monkeypatch):
    cfg = config(*scripted)
    train(cfg, folder := saved(cfg, tmp_path / "run"))
    best, last = (load_run(folder, which=which)[1].state_dict() for which in ("best", "last"))
    second = runs.load_training(folder / "checkpoints" / "batch_8.ckpt")
    assert_same(dict(best), dict(second["state_dict"]))
    assert any((best[name] != last[name]).any() for name in best)
    call("evaluate", evaluate, f"run={folder}", "which=last")
    before = runs.read_metrics(folder)
    call("evaluate", evaluate, f"run={folder}", "which=best")
    after = runs.read_metrics(folder)
    assert {name: after[name] for name in before} == before, "those of the last stay"
    assert after["best/batches"] == 8
    assert 0 <= after["best/test/acc"] <= 1


def test_a_run_without_a_best_says_how_to_get_one(averaged_run):
    with pytest.raises(UserError, match=r"train with checkpoint\.monitor=val/loss"):
        load_chosen(averaged_run, "best")
    for module in ("sample", "evaluate"):
        line = wrong(command(module, f"run={averaged_run}", "which=best"))
        assert line.startswith(f"error: which=best: {averaged_run}/checkpoints/best.ckpt")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            ["checkpoint.monitor=acc"],
            "must be a metric of validation, val/...; did you mean val/acc",
        ),
        (["checkpoint.monitor=test/acc"], "did you mean val/acc?"),
        (["checkpoint.monitor=val/d_real"], "checkpoint.mode must be given, min or max"),
        (["checkpoint.keep=3"], "checkpoint.keep=3 has no effect without checkpoint.monitor"),
        (["checkpoint.keep=0", "checkpoint.monitor=val/acc"], "checkpoint.keep=0"),
        (["checkpoint.mode=max"], "checkpoint.mode=max has no effect without checkpoint.monitor"),
        (["checkpoint.monitr=val/acc"], "did you mean checkpoint.monitor?"),
        (["checkpoint.mode=high", "checkpoint.monitor=val/acc"], "one of min, max"),
    ],
)
def test_invalid_settings_raise_one_line_errors(config, given, words):
    with pytest.raises(UserError) as error:
        config("model=fc", *given)
    assert words in str(error.value)


def test_unknown_monitor_error_suggests_the_nearest_metric(config, tmp_path):
    cfg = config(*RUN, "checkpoint.monitor=val/los", "checkpoint.mode=min")
    with pytest.raises(UserError, match=r"checkpoint.monitor=val/los is not .*mean val/loss\?"):
        train(cfg, saved(cfg, tmp_path / "run"))


def test_values_are_ranked_by_mode_and_the_earlier_of_equals_wins(tmp_path):
    for mode, expected in (("max", [2, 4]), ("min", [1, 3])):
        best = BestCheckpoints(tmp_path, "val/x", mode, 2)
        for batches, value in enumerate((0.1, 0.9, 0.1, 0.9, float("nan"), float("inf"), 0.5), 1):
            best.observe(value, batches)
        assert [one["batches"] for one in best.kept] == expected
    other = BestCheckpoints(tmp_path, "val/y", "min", 2)
    other.load_state_dict(best.state_dict())
    assert other.kept == [], "of another metric"
    other = BestCheckpoints(tmp_path, "val/x", "min", 1)
    other.load_state_dict(best.state_dict())
    assert [one["batches"] for one in other.kept] == [1]


def test_best_of_a_run_that_kept_one_stays_when_more_are_kept(tmp_path):
    last, best = tmp_path / "last.ckpt", BestCheckpoints(tmp_path, "val/x", "min", 1)
    for batches, value in ((10, 0.5), (20, 0.7)):
        last.unlink(missing_ok=True)
        last.write_text(str(batches))
        best.observe(value, batches)
        best.link(last, batches)
    resumed = BestCheckpoints(tmp_path, "val/x", "min", 3)
    resumed.load_state_dict(best.state_dict())
    resumed.link(last, 20)
    last.unlink()
    last.write_text("30")
    resumed.observe(0.1, 30)
    resumed.link(last, 30)
    found = {path.name: path.read_text() for path in tmp_path.glob("b*.ckpt")}
    assert found == {"batch_10.ckpt": "10", "batch_30.ckpt": "30", "best.ckpt": "30"}


def test_without_links_the_best_is_a_copy(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError("Operation not permitted")

    source, target = tmp_path / "last.ckpt", tmp_path / "best.ckpt"
    source.write_text("new")
    target.write_text("old")
    monkeypatch.setattr(os, "link", refuse)
    replace_by_link(source, target)
    assert target.read_text() == "new"
    assert not target.samefile(source)
    assert len(list(tmp_path.iterdir())) == 2
