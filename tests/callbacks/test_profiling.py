"""The setting `profiler`."""

import json

import pytest

from src.callbacks.profiling import short, table
from src.train import train
from tests.conftest import TINY, TINY_NETS


@pytest.mark.parametrize(
    ("kind", "named"), [("simple", "run_training_batch"), ("pytorch", "aten::addmm")]
)
def test_profile_is_in_the_run_folder_and_its_top_in_the_log(kind, named, config, tmp_path):
    settings = ("trainer.max_epochs=3", "test=false", f"profiler={kind}")
    train(config(*TINY, *TINY_NETS, *settings), tmp_path)  # 12 batches
    text = (tmp_path / "profile.txt").read_text()
    assert named in text
    assert text.splitlines()[0].split()[:2] == [
        "action" if kind == "simple" else "operator", "calls"]  # fmt: skip
    logged = (tmp_path / "train.log").read_text()
    (title,) = [line for line in logged.splitlines() if "profile of" in line]
    assert str(tmp_path / "profile.txt") in title
    assert f"  {text.splitlines()[1]}\n" in logged
    if kind == "pytorch":
        assert "profile of 5 batches" in title
        trace = json.loads((tmp_path / "profile_trace.json").read_text())
        assert any(event.get("name") == named for event in trace["traceEvents"])


@pytest.mark.parametrize("batches", [1, 2, 3])
def test_run_that_is_too_short_for_a_profile_says_so(batches, config, tmp_path):
    settings = ("test=false", "profiler=pytorch", f"trainer.limit_train_batches={batches}")
    train(config(*TINY, *TINY_NETS, *settings, "trainer.max_epochs=1"), tmp_path)
    said = "needs at least 3 training batches" in (tmp_path / "train.log").read_text()
    assert said == (batches < 3) == (not (tmp_path / "profile.txt").exists())


def test_table_aligns_columns_and_shortens_callbacks():
    name = short("[Callback]Samples{'every': 3}.on_train_batch_end")
    assert name == "[Callback]Samples.on_train_batch_end"
    assert table(("action", "calls"), [("fit", "1"), ("step", "1,000")]) == [
        "action  calls",
        "fit         1",
        "step    1,000",
    ]
