"""python -m src.runs: the table, its conditions, its order, its CSV."""

import csv
import subprocess
import sys

import pytest

from src.core.errors import UserError
from src.runs.__main__ import list_runs
from tests.conftest import ROOT, call, child_seconds, command, wrong
from tests.runs.folders import make_run


@pytest.fixture(autouse=True)
def narrow_terminal(monkeypatch):
    """A terminal in which the table of runs has no intervals."""
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def top(tmp_path):
    """Four runs: three finished with seeds 0, 1, 2 (one of another rate), one interrupted GAN."""
    for seed, acc, lr in ((0, 0.9, 0.1), (1, 0.92, 0.1), (2, 0.7, 0.5)):
        make_run(
            tmp_path / "fc_digits" / str(seed),
            metrics={"test/acc": acc, "test/loss": 1 - acc, "test/n": 360, "seconds": 9.0},
            settings={
                "seed": seed,
                "model.lr": lr,
                "name": f"run {seed}",
                "tags": ["a", f"t{seed}"],
            },
            started=f"2026-11-26T07:0{seed}:00.000+00:00",
        )
    make_run(
        tmp_path / "dcgan_digits" / "x",
        "dcgan",
        "running",  # but nobody holds its lock
        curves=[{"batches": 1, "train/d_loss": 2}, {"batches": 9, "val/fid_own": 5.5}],
        started="2026-11-25T07:00:00.000+00:00",
        settings={"note": "a, b"},
        diff="diff --git",
    )
    return tmp_path


def listed(top, *overrides):
    """Return the names of the runs that the command lists, in order."""
    return [run.label for run in call("runs", list_runs, f"out={top}", *overrides)]


ALL = ["dcgan_digits/x", "fc_digits/0", "fc_digits/1", "fc_digits/2"]


def test_table_shows_every_run_with_state_and_key_metrics(top, capsys):
    assert listed(top) == ALL
    header, first, second, *_ = capsys.readouterr().out.splitlines()
    assert header.split()[:6] == ["run", "state", "model", "data", "differs", "metrics"]
    assert first.split()[:6] == ["dcgan_digits/x", "interrupted", "dcgan", "digits",
                                 "val/fid_own", "5.5"]  # fmt: skip
    assert "abcdef123+" in first
    assert "a, b" in first
    assert "seed=0 lr=0.1  test/acc 0.9  test/loss 0.1" in second
    assert "abcdef123 " in second


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("model=dcgan", ALL[:1]),
        ("model=*gan", ALL[:1]),
        ("model!=dcgan", ALL[1:]),
        ("state=finished,test/acc>0.8", ALL[1:3]),
        ("test/acc>=0.9,test/acc<=0.9", ALL[1:2]),
        ("val/fid_own<6", ALL[:1]),
        ("train/d_loss<6", ALL[:1]),
        ("tags=t1", ALL[2:3]),
        ("name=run 2", ALL[3:]),
        ("name!=null", ALL[1:]),
        ("name=n*", []),
        ("test/acc=*", ALL[1:]),
        ("model.lr=0.5", ALL[3:]),
        ("model.lr<0.5", ALL[:3]),
        ("seed=1", ALL[2:3]),
        ("commit=abcdef123", ALL[1:]),
        ("date>2026-11-25 12", ALL[1:]),
        ("date=2026-11-25", ALL[:1]),
        ("date!=2026-11-25", ALL[1:]),
        ("date<=2026-11-25", ALL[:1]),
        ("date>2026-11-25", ALL[1:]),
        ("date=2026-11", ALL),
        ("date=*-25 *", ALL[:1]),
        ("note=a*", ALL[:1]),
        ("model=nothing", []),
    ],
)
def test_where_selects_runs(top, where, expected):
    assert listed(top, f"where={where}") == expected


def test_sort_by_any_key_puts_runs_without_a_value_last(top):
    names = ["fc_digits/1", "fc_digits/0", "fc_digits/2", "dcgan_digits/x"]
    assert listed(top, "sort=-test/acc") == names
    assert listed(top, "sort=test/acc") == [*names[2::-1], names[3]]
    assert listed(top, "sort=-date") == ALL[::-1]


def test_seeds_are_averaged_with_an_interval(top, capsys):
    for number, seconds in ((1, 12.0), (2, 14.0)):
        path = top / "fc_digits" / str(number) / "run.json"
        path.write_text(path.read_text().replace('"seconds": 10.0', f'"seconds": {seconds}'))
    listed(top, "average_seeds=true", "where=model=fc,seed>=0", "metrics=test/acc")
    header, first, second, note, _ = capsys.readouterr().out.splitlines()
    assert header.split()[4:7] == ["test/acc", "seed", "seconds"]
    assert first.startswith("fc (2 seeds)  finished")
    assert first.endswith(f"{top}/fc_digits/0 and 1 more")
    assert "0.91 ± 0.13  0, 1  11 ± 13 " in first  # 12.706 * 0.014142 / sqrt(2), 12.706 * 1
    assert second.startswith("run 2 ")
    assert " 0.7 " in second
    assert "±" not in second
    assert (
        note == "±: Student's t 95% interval of the mean over seeds; two seeds give wide intervals"
    )


def test_repeated_seed_is_left_out_of_an_average(top, capsys):
    settings, started = {"name": "x", "model.lr": 0.1}, "2026-11-26T09:00:00+00:00"
    make_run(top / "again", metrics={"test/acc": 0.8}, settings=settings, started=started)
    listed(top, "average_seeds=true", "where=model=fc", "metrics=test/acc")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"left out 1 run that repeats a seed: {top}/fc_digits/0"
    assert any("(2 seeds)" in line and "0.86 ± 0.76" in line for line in lines)
    listed(top)
    assert "left out" not in capsys.readouterr().out


def test_means_are_sorted_by_what_is_shown(tmp_path, capsys):
    for name, lr, accuracies in (("even", 0.1, (0.8, 0.8)), ("wide", 0.2, (0.9, 0.5))):
        for seed, accuracy in enumerate(accuracies):
            make_run(tmp_path / f"{name}{seed}", metrics={"test/acc": accuracy},
                     settings={"seed": seed, "model.lr": lr})  # fmt: skip
    listed(tmp_path, "average_seeds=true", "sort=-test/acc", "metrics=test/acc")
    first, second = capsys.readouterr().out.splitlines()[1:3]
    assert "lr=0.1" in first
    assert "lr=0.2" in second


def test_metric_of_a_column_is_shown_once(top, capsys):
    listed(top, "where=model=fc", "sort=-test/acc")
    assert capsys.readouterr().out.count("test/acc") == 1


def test_intervals_of_runs_are_shown_if_the_terminal_is_wide_enough(tmp_path, capsys, monkeypatch):
    metrics = {"test/acc": 0.7806, "test/acc_low": 0.735, "test/acc_high": 0.82}
    make_run(tmp_path / "a", metrics=metrics)
    for columns, is_shown in ((160, True), (60, False)):
        monkeypatch.setenv("COLUMNS", str(columns))
        listed(tmp_path)
        out = capsys.readouterr().out
        assert ("test/acc 0.7806 (0.735 to 0.820)" in out) == is_shown
        assert ("Wilson" in out) == is_shown


def test_csv_holds_all_metrics_and_settings(top, tmp_path):
    listed(top, f"csv={tmp_path / 'x' / 'runs.csv'}", "where=model=fc")
    with (tmp_path / "x" / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["test/acc"] for row in rows] == ["0.9", "0.92", "0.7"]
    assert [row["model.lr"] for row in rows] == ["0.1", "0.1", "0.5"]
    assert rows[0]["folder"] == str(top / "fc_digits" / "0")
    assert rows[0]["state"] == "finished"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("where=test/ac>0.5", "where=test/ac>0.5: no run has 'test/ac'; did you mean test/acc?"),
        ("sort=-tset/loss", "sort=-tset/loss: no run has 'tset/loss'; did you mean test/loss?"),
        ("metrics=[acc]", "metrics: no run has 'acc'"),
        ("where=test/acc>high", "'high' is not a number, which test/acc> needs"),
        ("where=dcgan", "'dcgan' is not a condition; write KEY=VALUE"),
        ("where=model=fc,", "'' is not a condition"),
    ],
)
def test_wrong_key_or_condition_is_one_line(top, override, words):
    with pytest.raises(UserError) as error:
        listed(top, override)
    assert words in str(error.value)


def test_no_run_and_no_folder_are_one_line(tmp_path):
    assert "there is no run below" in wrong(command("runs", f"out={tmp_path}"))
    assert "is not a folder" in wrong(command("runs", f"out={tmp_path / 'x'}"))


def test_runs_without_or_with_a_damaged_record_are_listed(tmp_path):
    for name, text in (("old", None), ("damaged", "{")):
        (tmp_path / name / ".hydra").mkdir(parents=True)
        (tmp_path / name / ".hydra" / "config.yaml").write_text(
            "model: {_target_: src.models.gan.GAN}\nseed: ${data.seed}\ndata: {name: digits}\n"
        )
        if text:
            (tmp_path / name / "run.json").write_text(text)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "run.json").write_text("")
    found = call("runs", list_runs, f"out={tmp_path}", "sort=run")
    assert [(run.label, run.fields["model"], run.state) for run in found] == [
        ("bare", "", "interrupted"),
        ("damaged", "gan", "interrupted"),
        ("old", "gan", "interrupted"),
    ]


def test_two_hundred_runs_are_listed_without_torch(tmp_path):
    packages = {f"package-{k}": "1.0.0" for k in range(200)}
    settings = {f"setting_{k}": k for k in range(200)}
    for number in range(200):
        make_run(
            tmp_path / "fc_digits" / str(number),
            metrics={"test/acc": number / 200},
            packages=packages,
            settings=settings,
            diff="x" * 20_000,
        )
    code = (
        "import sys\nfrom src.runs.__main__ import main\n"
        f"sys.argv = ['runs', 'out={tmp_path}', 'where=test/acc>0.5', 'sort=-test/acc']\n"
        "code = main()\nprint(code, 'torch' in sys.modules)"
    )
    before = child_seconds()
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.splitlines()[-2:] == [f"99 runs of 200 below {tmp_path}", "0 False"]
    assert child_seconds() - before < 3
