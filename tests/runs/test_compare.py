"""python -m src.runs compare: differences, metrics with the best marked, curves, a picture."""

import pytest
from PIL import Image

from src.metrics.directions import direction
from src.runs.__main__ import compare
from src.viz.curves import sparkline
from tests.conftest import call, command, wrong
from tests.runs.folders import make_run


@pytest.fixture
def pair(tmp_path):
    """Two seeds of one run, and another run with another rate."""
    for name, seed, lr, acc in (("a", 0, 0.1, 0.9), ("b", 1, 0.1, 0.8), ("c", 0, 0.5, 0.7)):
        make_run(
            tmp_path / "runs" / name,
            metrics={"test/acc": acc, "test/loss": 1 - acc},
            settings={"seed": seed, "model.lr": lr, "name": name if name == "c" else None},
            curves=[{"batches": x, "val/acc": acc * x / 8, "train/loss": 1 / x} for x in (2, 4, 8)],
        )
    return tmp_path / "runs"


def test_comparison_shows_differences_best_metrics_and_curves(pair, tmp_path, capsys):
    call("compare", compare, f"runs=['{pair}/a','{pair}/b','{pair}/c']", f"out={tmp_path}/x.png")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["A", f"{pair}/a", "(seeds", "0,", "1)", "finished"]
    assert lines[2].split() == ["B", "c", "finished"]
    at = lines.index(next(line for line in lines if line.startswith("settings that differ")))
    assert lines[at + 1].split() == ["model.lr", "0.1", "0.5"]
    assert lines[at + 2] == ""
    rows = {line.split()[0]: line for line in lines if line.startswith("test/")}
    assert rows["test/acc"].split("better")[1].split() == ["0.85", "±", "0.64", "*", "0.7"]
    assert rows["test/loss"].split("is")[1].split()[0] == "better"
    assert "val/acc from 0.175 to 0.85" in lines
    assert any(line.startswith("train/loss from 0.125 to 0.5") for line in lines)
    assert Image.open(tmp_path / "x.png").size[0] > 500


def test_a_folder_means_all_runs_below_it(pair, capsys):
    result = command("runs", "compare", str(pair), "average_seeds=false", "out=null")
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()[1:4]] == ["A", "B", "C"]


def test_equal_settings_are_said_to_be_equal(pair, capsys):
    call("compare", compare, f"runs=['{pair}/a','{pair}/b']", "average_seeds=false", "out=null")
    assert "the settings are equal" in capsys.readouterr().out


def test_wrong_runs_are_one_line(pair):
    assert "compare needs two runs, not 1" in wrong(command("runs", "compare", f"{pair}/a"))
    assert "is not the folder of a run" in wrong(command("runs", "compare", f"{pair}/a", "nowhere"))
    line = wrong(command("runs", "compare", str(pair), "metrics=val/ac"))
    assert "metrics: no run has 'val/ac'; did you mean val/acc?" in line


def test_sparkline_maps_low_and_high_to_the_first_and_last_block():
    assert sparkline([0, 7 / 8, 1, 2], 0, 1, 40) == "▁███"
    assert sparkline([1, 1], 1, 1, 40) == "▅▅"
    assert len(sparkline(range(1000), 0, 999, 40)) == 40
    assert sparkline([], 0, 1, 40) == ""


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("val/loss", "min"), ("val/acc", "max"), ("test/bound_nats", "min"), ("test/top5", "max"),
        ("val/fid_own", "min"), ("val/fid_own_floor", None), ("test/psnr_b", "max"),
        ("test/psnr_untranslated", None), ("val_classes/cat", "max"), ("test/acc_low", None),
        ("val/d_real", None), ("test/least_class", "max"), ("train/d_loss", None),
        ("train/images_per_second", None), ("val/cycle_a", "min"), ("val/class_3", None),
    ],
)  # fmt: skip
def test_direction_follows_the_name(metric, expected):
    assert direction(metric) == expected
