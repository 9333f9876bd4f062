"""run=last and a folder without its time: the newest run with a checkpoint."""

import shutil

import pytest

from src.config.overrides import quoted
from src.core.errors import UserError
from src.core.run_search import find_run, newest, runs_below
from tests.conftest import command, wrong
from tests.runs.folders import make_run


@pytest.fixture
def three(tmp_path, monkeypatch):
    """Below `runs`: an old run, a newer one, a still newer one without a checkpoint."""
    monkeypatch.chdir(tmp_path)
    for name, minute in (("gan_digits/new", 5), ("gan_digits/old", 1), ("fc_digits/empty", 9)):
        make_run(
            tmp_path / "runs" / name,
            started=f"2026-11-26T07:0{minute}:00.000+00:00",
            checkpoint="empty" not in name,
        )
    return tmp_path / "runs"


def test_last_is_the_newest_run_with_a_checkpoint(three):
    assert [str(path.relative_to(three)) for path in runs_below(three)] == [
        "fc_digits/empty", "gan_digits/new", "gan_digits/old",
    ]  # fmt: skip
    assert find_run("last") == "runs/gan_digits/new"
    assert find_run(f"{three}/gan_digits/last") == str(three / "gan_digits" / "new")
    assert find_run("runs/gan_digits") == "runs/gan_digits/new"
    assert find_run("runs/gan_digits/old") == "runs/gan_digits/old"
    assert newest(three / "fc_digits") is None


def test_a_resumed_run_is_the_last(three):
    shutil.rmtree(three / "gan_digits" / "old")
    make_run(three / "gan_digits" / "old", started="2026-11-26T08:00:00.000+00:00")
    assert find_run("last") == "runs/gan_digits/old"


def test_time_zones_do_not_matter(three):
    make_run(three / "gan_digits" / "east", started="2026-11-26T09:04:00.000+02:00")
    assert find_run("last") == "runs/gan_digits/new"


def test_other_names_stay_as_they_are(three):
    (three / "multirun.yaml").write_text("")
    for name in ("nowhere", "runs", "runs/fc_digits", "RUN", "pretrained", f"[{'x,' * 999}]"):
        assert find_run(name) == name
    (three.parent / "last").mkdir()
    assert find_run("last") == "last", "a folder of that name"


@pytest.mark.parametrize(
    "key", ["run", "resume", "model.init_from", "augment.run", "+model.init_from"]
)
def test_every_setting_that_names_a_run_takes_last(three, key):
    assert quoted(f"{key}=last") == f"{key}='runs/gan_digits/new'"
    assert quoted(f"{key}=runs/gan_digits") == f"{key}='runs/gan_digits/new'"


def test_last_without_a_run_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="run=last: there is no run with a checkpoint below runs"):
        quoted("run=last")
    for module, setting in (("sample", "run"), ("train", "resume")):
        line = wrong(command(module, f"{setting}={tmp_path}/last"))
        assert line == (
            f"error: {setting}={tmp_path}/last: there is no run with a checkpoint below {tmp_path}"
        )
