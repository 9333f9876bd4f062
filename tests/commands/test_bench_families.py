"""`python -m src.bench.families`, without training."""

import csv

import numpy as np
import pytest
from PIL import Image

from src.bench import families, made_up
from src.bench.__main__ import Speeds
from src.bench.families import FAMILIES, bench_families, overrides_of
from src.bench.startup import Start
from src.config.checks import check
from src.config.compose import compose
from src.config.overrides import quoted
from src.core.errors import UserError
from tests.conftest import call, data_of

SPEEDS = Speeds(
    {"plain": [10.0, 20.0], "lean": [40.0, 50.0], "empty": [30.0, 40.0], "ours": [36.0, 40.0]},
    [Start(4.0, 800.0), Start(5.0, 900.0)],
)


@pytest.mark.parametrize("name", FAMILIES)
def test_settings_of_each_family_pass_the_checks(name, tmp_path):
    cfg = compose("bench_families", [])
    overrides = overrides_of(FAMILIES[name], str(tmp_path), cfg)
    composed = compose("bench", [quoted(override) for override in overrides])
    check(composed, "bench")
    assert composed.data.root == str(tmp_path)
    assert composed.data.name in ("mnist", "folder", "winter")


def test_families_write_rows_a_table_and_a_plot(monkeypatch, tmp_path):
    monkeypatch.setattr(families, "bench", lambda cfg, overrides: SPEEDS)
    out = tmp_path / "out"
    sources = (f"mnist={tmp_path}", f"cifar10={tmp_path}")
    call("bench_families", bench_families, "families=[fc,lenet]", *sources, f"out={out}")
    with (out / "speed.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    ratios = [
        float(row["value"]) for row in rows if (row["run"], row["metric"]) == ("fc", "ratio_lean")
    ]
    assert ratios == [0.9, 0.8]
    assert {row["run"] for row in rows} == {"fc", "lenet"}
    line = (out / "speed.md").read_text().splitlines()[2]
    assert line.startswith("| `fc` | 15 | 45 | 35 | 38 |  | 2.80 (2.00 to 3.60) | 0.85 (0.80 to")
    assert line.endswith("| 4.5 | 900 |")
    assert Image.open(out / "speed.png").size[0] > 300


def test_loops_that_were_not_timed_leave_their_cells_empty(monkeypatch, tmp_path):
    given = []

    def only_starts(cfg, overrides):
        given.append(list(cfg.bench.loops))
        return Speeds({}, SPEEDS.starts)

    monkeypatch.setattr(families, "bench", only_starts)
    sources = (f"mnist={tmp_path}", f"cifar10={tmp_path}", f"out={tmp_path / 'out'}")
    call("bench_families", bench_families, "families=[fc]", "loops=[]", *sources)
    assert given == [[]]
    table = (tmp_path / "out" / "speed.md").read_text()
    assert table.splitlines()[2] == "| `fc` |" + "  |" * 8 + " 4.5 | 900 |"
    assert not (tmp_path / "out" / "speed.png").exists()


def test_an_unknown_family_is_named():
    with pytest.raises(UserError, match=r"families=lennet: one of .*did you mean lenet"):
        call("bench_families", bench_families, "families=[lennet]")


def test_made_up_images_are_read_as_their_sets(config, monkeypatch, tmp_path):
    monkeypatch.setattr(made_up, "MNIST", (("train", 40), ("t10k", 20)))
    monkeypatch.setattr(made_up, "PER_CLASS", (("train", 2), ("test", 1)))
    mnist = data_of(config, "data=mnist", f"data.root={made_up.made_up_mnist(tmp_path / 'm')}",
                    "data.val_size=0")  # fmt: skip
    assert (len(mnist.train), len(mnist.test)) == (40, 20)
    assert np.unique(mnist.train.labels).tolist() == list(range(10))
    images = made_up.made_up_images(tmp_path / "c", classes=3)
    folder = data_of(config, "data=folder", f"data.root={images}", "data.val_size=0")
    assert (len(folder.train), len(folder.test)) == (6, 3)
