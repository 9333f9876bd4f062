"""`src.train.run`: train from Python as on the command line."""

import json

import pytest

from src.core import run_record, runs
from src.core.errors import UserError
from src.engine.load import load_classifier
from src.train import run
from tests.conftest import TINY

SMALL = ["model=fc", "data=digits", *TINY, "trainer.max_epochs=1"]


def test_run_is_an_ordinary_one(tmp_path):
    folder = tmp_path / "a new folder"
    metrics = run([*SMALL, "seed=3"], folder)
    assert metrics == json.loads((folder / "metrics.json").read_text())
    assert runs.load_config(folder).seed == 3
    assert run_record.read(folder)["sessions"][-1]["state"] == run_record.FINISHED
    assert len(load_classifier(folder).class_names) == 10
    with pytest.raises(UserError, match="exists and is not empty"):
        run(SMALL, folder)


def test_settings_are_those_of_the_command_line(tmp_path):
    recipe = tmp_path / "best.yaml"
    recipe.write_text("# @package _global_\nmodel: {optimizer: {dampening: 0.2}}\nnote: of a sweep")
    run([*SMALL, "model/optimizer=sgd", f"experiment={recipe}", "model.optimizer.dampening=0.1",
         "model.optimizer.maximize=false"], tmp_path / "run")  # fmt: skip
    cfg = runs.load_config(tmp_path / "run")
    assert (cfg.note, cfg.model.optimizer.dampening) == ("of a sweep", 0.1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("model.optimizer.lrr=1", "did you mean model.optimizer.lr"), ("data=folder", "data.root")],
)
def test_wrong_settings_raise_one_line_and_leave_no_folder(tmp_path, wrong, said):
    with pytest.raises(UserError, match=said) as error:
        run([*SMALL, wrong], tmp_path / "run")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
