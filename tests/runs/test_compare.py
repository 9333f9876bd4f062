"""python -m src.runs compare: differences, metrics with the best marked, curves, a picture."""

import json
from types import SimpleNamespace

import pytest
from PIL import Image

from src.metrics.directions import direction
from src.runs import compare as comparison
from src.runs import differences, info
from src.runs.__main__ import compare, main
from src.runs.differences import short_names
from src.runs.info import RunInfo
from src.runs.seeds import grouped
from src.viz.curves import Curve, sparkline
from tests.conftest import call, command, wrong
from tests.runs.folders import make_run


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    """A terminal that is wide enough for names above the columns."""
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def pair(tmp_path):
    """A folder with two seeds of one run, and another run with another rate."""
    for name, seed, lr, acc in (("a", 0, 0.1, 0.9), ("b", 1, 0.1, 0.8), ("c", 0, 0.5, 0.7)):
        make_run(
            tmp_path / "runs" / name,
            metrics={"test/acc": acc, "test/loss": 1 - acc},
            settings={"seed": seed, "model.lr": lr, "name": name if name == "c" else None},
            curves=[{"batches": x, "val/acc": acc * x / 8, "train/loss": 1 / x} for x in (2, 4, 8)],
        )
    return tmp_path / "runs"


def test_class_with_a_comma_in_its_name_hides_no_row(tmp_path):
    rows = ['batches,"val_classes/Smith, John",val/acc', "2,0.5,0.7", "4,0.6,"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
    assert [dict(row) for row in info._rows(tmp_path, None)] == [
        {"batches": 2, "val_classes/Smith, John": 0.5, "val/acc": 0.7},
        {"batches": 4, "val_classes/Smith, John": 0.6},
    ]


def compared(capsys, *given, **settings):
    """Return the lines that `compare` prints; without a picture."""
    runs = ",".join(f"'{one}'" for one in given)
    more = [f"{key}={value}" for key, value in settings.items()]
    call("compare", compare, f"runs=[{runs}]", "out=null", *more)
    return capsys.readouterr().out.splitlines()


def row(lines, start):
    """Return the words of the first line that starts with `start`, without it."""
    return next(line for line in lines if line.startswith(start)).removeprefix(start).split()


def test_comparison_shows_differences_best_metrics_and_curves(pair, tmp_path, capsys):
    call("compare", compare, f"runs=['{pair}']", f"out={tmp_path}/x.png")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [
        "A",
        "fc",
        "(2",
        "seeds)",
        "finished",
        f"{pair}/a",
        "and",
        "1",
        "more",
    ]
    assert lines[2].split() == ["B", "c", "finished", f"{pair}/c"]
    at = lines.index(next(line for line in lines if line.startswith("settings that differ")))
    assert lines[at].split()[3:] == ["A", "fc", "B", "c"]
    assert lines[at + 1].split() == ["model.lr", "0.1", "0.5"]
    assert lines[at + 2].split() == ["seed", "0,", "1", "0"]
    rows = {line.split()[0]: line for line in lines if line.startswith("test/")}
    assert rows["test/acc"].split("better")[1].split() == [
        *["0.85", "±", "0.64", "(2", "seeds)", "*"],
        "0.7",
    ]
    assert rows["test/loss"].split("is")[1].split()[0] == "better"
    assert "two seeds give wide intervals" in lines[lines.index(rows["test/loss"]) + 1]
    assert "val/acc from 0.175 to 0.85" in lines
    assert any(
        line.startswith("A (fc) has the best test/acc; B (c) is second by") for line in lines
    )
    assert any(line.startswith("train/loss from 0.125 to 0.5") for line in lines)
    assert Image.open(tmp_path / "x.png").size[0] > 500


def test_runs_of_a_folder_are_averaged_and_runs_given_one_by_one_are_not(pair, capsys):
    seeds = [f"{pair}/a", f"{pair}/b"]
    lines = compared(capsys, *seeds)
    assert row(lines, "settings that differ") == ["A", "fc", "seed=0", "B", "fc", "seed=1"]
    assert row(lines, "seed ") == ["0", "1"]
    assert row(compared(capsys, *seeds, average_seeds="true"), "A fc (2 seeds)")
    assert [line[:1] for line in compared(capsys, pair, average_seeds="false")[1:4]] == list("ABC")
    assert row(compared(capsys, pair, f"{pair}/b"), "B c")[0] == "finished"


def test_repeated_seed_counts_once_and_the_newest_finished_run_stays(pair, capsys):
    for name, state, acc, hour in (("old", "finished", 0.1, 6), ("new", "finished", 0.6, 9),
                                   ("cut", "failed", 0.2, 10)):  # fmt: skip
        make_run(pair / name, state=state, metrics={"test/acc": acc}, settings={"seed": 1},
                 started=f"2026-11-26T0{hour}:00:00+00:00")  # fmt: skip
    lines = compared(capsys, pair)
    assert row(lines, "A fc (2 seeds)")
    assert row(lines, "test/acc   higher is better")[0] == "0.75"  # mean of 0.9 (a) and 0.6 (new)
    assert lines[-1] == f"left out 3 runs that repeat a seed: {pair}/b, {pair}/cut, {pair}/old"


def test_interval_of_a_single_run_is_shown_and_explained(tmp_path, capsys):
    for name, acc in (("a", 0.8), ("b", 0.7)):
        metrics = {"test/acc": acc, "test/acc_low": acc - 0.05, "test/acc_high": acc + 0.05}
        make_run(tmp_path / name, metrics=metrics, settings={"name": name})
    lines = compared(capsys, f"{tmp_path}/a", f"{tmp_path}/b")
    cells = ["0.8", "(0.750", "to", "0.850)", "*", "0.7", "(0.650", "to", "0.750)"]
    assert row(lines, "test/acc  higher is better") == cells
    assert "(a to b): Wilson's 95% interval over the examples" in lines


def test_columns_of_a_narrow_terminal_have_letters(pair, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    assert row(compared(capsys, pair), "settings that differ") == ["A", "B"]


def test_settings_that_follow_from_the_model_are_left_out(tmp_path, capsys):
    for name, model, size, words in (
        ("a", "fc", 8, ""),
        ("b", "dcgan", 16, "python -m src.train model.beta=2"),
    ):
        folder = make_run(tmp_path / name, model)
        record = json.loads((folder / "run.json").read_text())
        record["settings"]["model"] |= {"net": {"hidden_dim": size}, f"only_{model}": 1}
        record["settings"]["model"] |= {"beta": 2} if words else {}
        record["sessions"][0]["command"] = words
        (folder / "run.json").write_text(json.dumps(record))
    lines = compared(capsys, tmp_path / "a", tmp_path / "b")
    at = lines.index(next(line for line in lines if line.startswith("settings that differ")))
    assert [line.split() for line in lines[at + 1 : at + 3]] == [
        ["model", "fc", "dcgan"],
        ["model.beta", "-", "2"],
    ]
    assert len(lines) == at + 3


def test_command_names_the_settings_of_its_recipes(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "defaults:\n- lenet_cifar10\n- override /model/loss: bce\nmodel: {a: {b: 1}}\n"
    )
    keys = differences._keys(f"python -m src.train experiment={recipe} +trainer.max_epochs=1")
    assert {"model.loss", "model.a.b", "trainer.max_epochs", "model", "data"} <= keys
    assert differences._keys("train experiment=gone 'x") == set()


def test_names_say_what_differs_within_a_model(tmp_path):
    found = [
        RunInfo(make_run(tmp_path / f"{model}{lr}{epochs}", model, settings=settings))
        for model, lr, epochs in (("fc", 0.1, 1), ("fc", 0.01, 1), ("fc", 0.01, 2), ("dcgan", 1, 1))
        for settings in [{"model.lr": lr, "epochs": epochs, "note": "x"}]
    ]
    expected = ["fc lr=0.1 epochs=1", "fc lr=0.01 epochs=1", "fc lr=0.01 epochs=2", "dcgan"]
    assert short_names(grouped(found)) == expected


def test_class_that_differs_is_shown_as_the_choice_of_its_group(tmp_path, capsys):
    for choice, target in (("bce", "NonSaturating"), ("lsgan", "LeastSquares")):
        settings = {"model.loss": {"_target_": f"src.losses.{target}"}}
        folder = make_run(tmp_path / choice, settings=settings)
        record = json.loads((folder / "run.json").read_text())
        record["choices"]["model/loss"] = choice
        (folder / "run.json").write_text(json.dumps(record))
    lines = compared(capsys, tmp_path)
    assert row(lines, "model/loss") == ["bce", "lsgan"]
    assert row(lines, "B fc loss=lsgan")[0] == "finished"


def test_equal_settings_are_said_to_be_equal(pair, capsys):
    make_run(pair / "d", metrics={"test/acc": 0.5})
    lines = compared(capsys, f"{pair}/a", f"{pair}/d")
    assert "the settings are equal" in lines
    assert row(lines, "A fc (a)")


def test_folder_of_a_job_is_a_run_although_its_name_has_equal_signs(tmp_path, capsys, monkeypatch):
    for seed in (0, 1):
        make_run(
            tmp_path / f"lr=0.1,seed={seed}", metrics={"test/acc": 0.5}, settings={"seed": seed}
        )
    jobs = [f"{tmp_path}/lr=0.1,seed={seed}" for seed in (0, 1)]
    monkeypatch.setattr("sys.argv", ["compare", "compare", *jobs, "out=null"])
    assert main() == 0
    assert row(capsys.readouterr().out.splitlines(), "A fc seed=0") == ["finished", jobs[0]]
    monkeypatch.setattr("sys.argv", ["compare", "compare", jobs[0], f"{tmp_path}/lr=1", "out=null"])
    assert main() == 2
    assert f"{tmp_path}/lr=1 is not the folder of a run" in capsys.readouterr().err


def test_a_run_is_compared_once(tmp_path, capsys):
    for lr in (0.1, 0.2):
        make_run(tmp_path / "sweep" / f"lr={lr}", metrics={"test/acc": lr},
                 settings={"model.lr": lr})  # fmt: skip
    lines = compared(capsys, f"{tmp_path}/sweep", f"{tmp_path}/sweep/lr=0.2")
    assert any("B (fc lr=0.2) has the best test/acc; A" in line for line in lines)


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("where=model=fc", "unknown key 'where' in where='model=fc'"),
        ("b/../a", "compare: a is given twice"),
    ],
)
def test_wrong_argument_is_one_line(pair, capsys, monkeypatch, word, words):
    monkeypatch.chdir(pair)
    monkeypatch.setattr("sys.argv", ["compare", "compare", "a", word])
    assert main() == 2
    assert words in capsys.readouterr().err


def test_wrong_runs_are_one_line(pair):
    assert "compare needs two runs, not 1" in wrong(command("runs", "compare", f"{pair}/a"))
    assert "is not the folder of a run" in wrong(command("runs", "compare", f"{pair}/a", "nowhere"))
    line = wrong(command("runs", "compare", str(pair), "metrics=val/ac"))
    assert "metrics: no run has 'val/ac'; did you mean val/acc?" in line


def test_few_seeds_are_thin_lines_and_more_are_a_band():
    def members(count):
        return [SimpleNamespace(curve=lambda name, k=k: [(2, k), (4, k + 1)]) for k in range(count)]

    few, many = (comparison.curve(members(count), "val/acc") for count in (3, 4))
    assert few == Curve([2, 4], [1, 2], [0, 0], [[0, 1], [1, 2], [2, 3]])
    assert many.y == [1.5, 2.5]
    assert many.half == pytest.approx(
        [3.182446305 * 1.290994449 / 2] * 2
    )  # t(0.975, 3), s / sqrt(n)
    assert not many.seeds
    assert "Student's t" in comparison.curve_note({"val/acc": [many]})
    assert "Student's t" not in comparison.curve_note({"val/acc": [few]})


def test_curve_of_one_point_is_left_out(tmp_path, capsys):
    for name, rows in (("a", (2, 4)), ("b", (2,))):
        curves = [{"batches": x, "val/acc": x / 8} for x in rows] + [{"batches": 9, "val/loss": 1}]
        make_run(tmp_path / name, curves=curves, settings={"name": name})
    lines = compared(capsys, tmp_path / "a", tmp_path / "b")
    at = lines.index("val/acc from 0.25 to 0.5")
    assert lines[at + 1].split() == ["A", "▁█", "0.5"]
    assert not any(line.startswith(("B  ", "val/loss from")) for line in lines)


def test_sparkline_maps_low_and_high_to_the_first_and_last_block():
    assert sparkline([0, 7 / 8, 1, 2], 0, 1, 40) == "▁███"
    assert sparkline([1, 1], 1, 1, 40) == "▅▅"
    assert len(sparkline(range(1000), 0, 999, 40)) == 40
    assert sparkline([], 0, 1, 40) == ""


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("val/loss", "min"), ("val/acc", "max"), ("test/bound_nats", "min"), ("test/top5", "max"),
        ("test/kl_nats", None),
        ("val/fid_own", "min"), ("val/fid_own_floor", None), ("test/psnr_b", "max"),
        ("test/psnr_untranslated", None), ("val_classes/cat", "max"), ("test/acc_low", None),
        ("val/d_real", None), ("test/least_class", "max"), ("train/d_loss", None),
        ("train/images_per_second", None), ("val/cycle_a", "min"), ("val/class_3", None),
    ],
)  # fmt: skip
def test_direction_follows_the_name(metric, expected):
    assert direction(metric) == expected
