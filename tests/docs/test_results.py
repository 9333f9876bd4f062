"""The tables of the result pages are those that results/*.csv give."""

import csv
import json
import re
import statistics

import pytest

from results import curves, tables
from results.layout import TABLES
from src.metrics.intervals import mean_interval
from tests.conftest import ROOT

CSV_FILES = sorted((ROOT / "results").glob("*.csv"))
SEEDS = {"", "mean", "std", "min", "max", "median", "low", "high"}


@pytest.mark.parametrize("page", tables.pages(), ids=lambda page: page.name)
def test_tables_of_a_page_are_up_to_date(page):
    text = page.read_text()
    assert text == tables.filled(text), "run: python -m results.tables"


def test_every_table_is_on_a_page():
    text = "".join(page.read_text() for page in tables.pages())
    absent = [name for name in TABLES if f"<!-- table: {name} -->" not in text]
    assert not absent


def test_every_csv_file_is_a_table():
    assert {path.stem for path in CSV_FILES} == TABLES.keys() - {"summary", "speed_goals"}


@pytest.mark.parametrize("path", CSV_FILES, ids=lambda path: path.stem)
def test_csv_file_is_well_formed(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == tables.FIELDS
    keys = [(row["run"], row["seed"], row["metric"]) for row in rows]
    assert len(keys) == len(set(keys)), "the same metric twice"
    for row in rows:
        assert None not in row.values()
        assert row["run"]
        assert row["metric"]
        assert row["value"]
        assert row["seed"].isdigit() or row["seed"] in SEEDS


RECIPES = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_result_in_a_recipe_is_that_of_its_page(recipe):
    """A line `# Result: 79.74% test accuracy (docs/results/transfer.md)` quotes the row."""
    found = re.search(r"^# Result: (.*) \((docs/results/\w+\.md)\)", recipe.read_text(), re.M)
    if not found:
        return
    page = (ROOT / found[2]).read_text().splitlines()
    rows = [line for line in page if line.startswith("|")]
    rows = [row for row in rows if f"`{recipe.stem}`" in row] or rows  # a row may be a variation
    for figure in re.findall(r"\d+\.\d+", found[1]):
        assert any(figure in row for row in rows), f"{figure} is not in {rows}"


def metric(values, digits=2, **kept):
    runs = {"a": {"x": {**{str(i): str(v) for i, v in enumerate(values)}, **kept}}}
    return tables.Metric("x", digits), runs


def test_mean_and_spread_are_over_seeds():
    x, runs = metric([12.22, 9.70, 11.94])
    assert x.each(runs, "a") == "12.22, 9.70, 11.94"
    assert x.mean_std(runs, "a") == "11.29 ± 1.38"


def test_interval_is_students():
    values = [27.56, 27.92, 27.65]
    x, runs = metric(values)
    low, high = mean_interval(values)
    assert x.mean_interval(runs, "a") == f"{statistics.mean(values):.2f} ({low:.2f} to {high:.2f})"


def test_kept_statistic_wins_over_computed_one():
    x, runs = metric([27.56, 27.92, 27.65], low="27.24", high="28.19")
    assert x.mean_interval(runs, "a") == "27.71 (27.24 to 28.19)"


def test_kept_mean_is_shown_as_written():
    x, runs = metric([], mean="0.032")
    assert x.mean_std(runs, "a") == "0.032"


def test_difference_is_taken_seed_by_seed():
    runs = {
        "none": {"x": {"0": "1", "1": "5"}},
        "more": {"x": {"0": "2", "1": "6.5"}},
    }
    cell = tables.Metric("x").gain_over("none")
    low, high = mean_interval([1.0, 1.5])
    assert cell(runs, "more") == f"+1.2 ({low:+.1f} to {high:+.1f})"
    assert cell(runs, "none") == ""


def test_check_names_the_stale_page(tmp_path, monkeypatch, capsys):
    page = tmp_path / "gan.md"
    page.write_text("<!-- table: gan -->\n| old |\n<!-- end -->\n")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "pages", lambda: [page])
    monkeypatch.setattr("sys.argv", ["tables", "--check"])
    assert tables.main() == 1
    assert "gan.md is out of date" in capsys.readouterr().err
    assert "old" in page.read_text()
    monkeypatch.setattr("sys.argv", ["tables"])
    assert tables.main() == 0
    assert page.read_text() == f"<!-- table: gan -->\n{TABLES['gan']()}<!-- end -->\n"


def test_every_picture_of_curves_is_drawn_and_on_a_page():
    text = "".join(page.read_text() for page in tables.pages())
    for name in curves.CURVES:
        assert (curves.FOLDER / f"{name}.csv").is_file()
        assert (curves.IMAGES / f"curves_{name}.png").is_file()
        assert f"images/curves_{name}.png" in text, name


def test_a_curve_is_taken_from_the_rows_that_have_the_metric(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "FOLDER", tmp_path)
    monkeypatch.setattr(curves, "IMAGES", tmp_path)
    (tmp_path / "metrics.csv").write_text("batches,val/loss\n5,\n10,0.5\n20,0.25\n")
    curves.collect("vgg", "val/loss", "a run", tmp_path)
    assert curves.read("vgg") == {"a run": [(10.0, 0.5), (20.0, 0.25)]}
    settings = {"trainer": {"max_epochs": 4}}
    (tmp_path / "run.json").write_text(json.dumps({"settings": settings}))
    curves.collect("draw", "val/loss", "a run", tmp_path)
    assert curves.read("draw") == {"a run": [(2.0, 0.5), (4.0, 0.25)]}
    assert curves.draw("vgg").stat().st_size > 1000
