"""`python -m src.bench.scaling`. Quick tests replace the measurement, slow ones train."""

import csv
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import pytest
from PIL import Image

from src.bench import scaling
from src.bench.made_up import linked_images, made_up_images
from src.bench.scaling import AXES, Point, bench_scaling, overrides_of
from src.config.checks import check
from src.config.compose import compose
from src.config.overrides import quoted
from src.core.errors import Incomplete, UserError
from tests.conftest import call, command


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with two classes of 550 made-up images each."""
    return made_up_images(tmp_path_factory.mktemp("images"), classes=2)


@pytest.mark.parametrize("name", AXES)
def test_settings_of_each_axis_pass_the_checks(name, tmp_path):
    axis = AXES[name]
    for value in (min(axis.values), max(axis.values)):
        overrides = overrides_of(axis, value, tmp_path)
        composed = compose("bench", [quoted(override) for override in overrides])
        check(composed, "bench")
        assert composed.data.root == str(tmp_path)
        assert composed.bench.batches >= 4
        assert composed.bench.warmup >= 1


@pytest.fixture
def measured(monkeypatch):
    """Replace the measurement; return a function that sets its points, or its error, in turn."""

    def give(*points):
        found = iter(points)

        def measure(overrides):
            point = next(found)
            if isinstance(point, Exception):
                raise point
            return point

        monkeypatch.setattr(scaling, "in_new_process", measure)
        steps = replace(AXES["num_steps"], values=(4, 8))
        monkeypatch.setitem(AXES, "num_steps", steps)

    return give


def test_axes_write_rows_a_table_and_a_plot(measured, tmp_path):
    measured(Point(900, 500), Point(500, 520), Point(1100, 510), Point(450, 540))
    out = tmp_path / "out"
    arguments = ("axes=[num_steps]", f"mnist={tmp_path}", "rounds=2", f"out={out}")
    call("bench_scaling", bench_scaling, *arguments)
    with (out / "scaling.csv").open(newline="") as file:
        rows = [(r["run"], r["seed"], r["metric"], r["value"]) for r in csv.DictReader(file)]
    assert ("num_steps=4", "2", "images_per_second", "1100") in rows
    assert ("num_steps=8", "1", "peak_memory_mb", "520") in rows
    assert len(rows) == 8
    lines = (out / "scaling.md").read_text().splitlines()
    assert lines[2] == "| `num_steps` | 4 | 1,000 | 900 | 1,100 | 505 | 500 | 510 |"
    assert Image.open(out / "scaling_num_steps.png").size[0] > 600


def test_a_failed_point_is_reported_and_left_out(measured, tmp_path, capsys):
    measured(Point(900, 500), BrokenProcessPool())
    arguments = ("axes=[num_steps]", f"mnist={tmp_path}", "rounds=1", f"out={tmp_path}")
    with pytest.raises(Incomplete, match="1 of 2 points failed"):
        call("bench_scaling", bench_scaling, *arguments)
    printed = capsys.readouterr().out
    assert "num_steps=8, round 1 failed and is left out: its process was killed" in printed
    assert len((tmp_path / "scaling.csv").read_text().splitlines()) == 3
    assert (tmp_path / "scaling_num_steps.png").exists()


def test_an_unknown_axis_is_named():
    with pytest.raises(UserError, match=r"axes=batchsize: one of .*did you mean batch_size"):
        call("bench_scaling", bench_scaling, "axes=[batchsize]")


def test_linked_images_repeat_those_of_a_folder(images, tmp_path):
    folder = linked_images(images, 2001, tmp_path / "links")
    numbers = [len(list((folder / f"class_{k}").iterdir())) for k in range(2)]
    assert numbers == [1001, 1000]
    with pytest.raises(UserError, match="no images in class folders"):
        linked_images(tmp_path / "links" / "nothing", 5, tmp_path / "none")


@pytest.mark.slow
def test_a_small_axis_is_measured_in_processes(monkeypatch, images, tmp_path):
    axis = replace(AXES["batch_size"], values=(8, 32), images=80, batches=lambda _: 6)
    monkeypatch.setitem(AXES, "batch_size", axis)
    arguments = ("axes=[batch_size]", f"cifar10={images}", "rounds=1", f"out={tmp_path}")
    found = call("bench_scaling", bench_scaling, *arguments)["batch_size"]
    assert list(found) == [8, 32]
    assert all(p.images_per_second > 1 and p.peak_memory_mb > 100 for [p] in found.values())
    assert (tmp_path / "scaling_batch_size.png").exists()


@pytest.mark.slow
def test_memory_of_streamed_training_does_not_grow_with_the_number_of_images(images, tmp_path):
    axis = replace(AXES["streamed"], batches=lambda _: 60)
    settings = ("data.size=128", "data.batch_size=16", "trainer.accelerator=cpu")
    peaks = []
    for n in (256, 2048):  # 12 and 96 MiB decoded
        folder = linked_images(images, n, tmp_path / str(n))
        overrides = [*overrides_of(axis, n, folder), *settings]
        peaks.append(scaling.in_new_process(overrides).peak_memory_mb)
    assert peaks[1] - peaks[0] < 20  # two runs of one folder differ by up to 10


@pytest.mark.slow
def test_a_wrong_axis_is_one_line_on_the_command_line():
    result = command("bench.scaling", "axes=[batchsize]")
    assert result.returncode == 2
    assert result.stderr.startswith("error: axes=batchsize: one of batch_size, ")
