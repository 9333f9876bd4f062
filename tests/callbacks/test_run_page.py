"""report.html and curves.png of a run, without training one."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from omegaconf import OmegaConf

from src.callbacks.run_page import RunPage, run_curves, shown_pictures
from src.viz.grids import save_gif, save_png

ROWS = ("batches,train/loss,train/lr,train/images_per_second,val/acc,val/acc_low,val/class_0,"
        "val/once\n"
        "1,3.0,0.1,50,,,,\n2,2.0,0.1,50,0.5,0.4,1,\n4,nan,0.1,50,0.75,0.6,1,2.0\n")  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "metrics.csv").write_text(ROWS)
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    frames = [noise, noise[::-1]]
    for number, frame in enumerate(frames):
        save_png(frame, tmp_path / "images" / f"samples_{number:08d}.png")
    save_gif(frames, tmp_path / "images" / "samples.gif")
    save_png(noise[:8, :8], tmp_path / "images" / "test_<b>.png")
    session = {"command": "python -m src.train 'a=<b>'", "device": "cpu", "state": "running"}
    (tmp_path / "run.json").write_text(json.dumps({"sessions": [session]}))
    return tmp_path


@pytest.fixture
def page(folder):
    model = SimpleNamespace(key_metrics=("acc",))
    values = {
        "test/acc": 0.75,
        "batches": 4,
        "seconds": 1.0,
        "train_seconds": 0.5,
        "features": "mnist 12ab",
    }
    cfg = OmegaConf.create({"seed": 7, "model": {"name": "<net>"}})
    path = RunPage(max_kilobytes=10).write(model, cfg, folder, values, "cnn on <digits>")
    return path.read_text()


def test_page_holds_metrics_command_config_curves_and_pictures(page, folder):
    for text in (
        "<h1>cnn on &lt;digits&gt;</h1>",
        "test/acc",
        "higher is better",
        "mnist 12ab",
        "python -m src.train &#39;a=&lt;b&gt;&#39;",
        "name: &lt;net&gt;",
        "seed: 7",
    ):
        assert text in page, text
    names = re.findall(r"images/([^ <]*)( \(reduced\))?<", page)
    assert names == [
        ("samples.gif", " (reduced)"),
        ("samples_00000001.png", " (reduced)"),
        ("test_&lt;b&gt;.png", ""),
    ]
    assert (folder / "images" / "curves.png").stat().st_size > 5000


def test_page_needs_no_network_and_stays_small(page):
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) == 4
    assert all(source.startswith("data:image/") for source in sources)
    assert "http" not in page
    assert len(page) < 200_000


def test_curves_start_with_key_metrics_and_leave_out_details(folder):
    curves = run_curves(folder, ("once", "acc"))
    assert list(curves) == ["acc", "loss", "lr"], "one value makes no curve"
    train, val = curves["acc"]
    assert (train.x, val.x, val.y) == ([], [2.0, 4.0], [0.5, 0.75])
    assert curves["loss"][0].y == [3.0, 2.0], "values that are not finite have no point"


def test_run_without_curves_and_pictures_has_a_page(tmp_path):
    model = SimpleNamespace(key_metrics=())
    path = RunPage(100).write(model, OmegaConf.create({}), tmp_path, {"batches": 0}, "x")
    assert "<h1>x</h1>" in path.read_text()
    assert shown_pictures(tmp_path / "images") == []
