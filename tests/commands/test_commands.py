"""The commands as a user runs them: in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from src.core import run_record
from src.core.errors import UserError
from src.sample import sample
from tests.conftest import ROOT, TINY, TINY_NETS, call, command, wrong

QUICK = (*TINY, *TINY_NETS, "trainer.max_epochs=1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of a finished run, and the output of the command."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    shown = [
        "callbacks=default",
        "logger=default",
        "~callbacks.quality",
    ]  # test_callbacks.py has the quality
    result = command("train", *QUICK, *shown, f"hydra.run.dir={folder}")
    assert result.returncode == 0, result.stderr
    return folder, result.stderr


def test_run_folder_holds_the_documented_files(finished):
    folder, said = finished
    names = {path.name for path in folder.iterdir()}
    assert {
        ".hydra",
        "run.json",
        "train.log",
        "metrics.csv",
        "metrics.json",
        "report.html",
        "checkpoints",
        "images",
    } <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert str(folder / "metrics.json") in said
    assert str(folder / "images") in said
    assert "tensorboard" in said
    assert "test/d_loss" in said
    assert "Traceback" not in said
    assert "images/s" in said or "images_per_second" in said


def test_run_json_repeats_the_run(finished):
    record = run_record.read(finished[0])
    (session,) = record["sessions"]
    assert session["state"] == "finished"
    assert session["command"].startswith(f"python -m src.train {QUICK[0]}")
    assert session["device"] == "cpu"
    assert session["packages"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert record["choices"]["callbacks"] == "default"
    assert record["settings"]["trainer"]["precision"] == "32-true"


def test_output_has_plain_lines_outside_a_terminal(finished):
    assert "\r" not in finished[1]
    assert "\x1b" not in finished[1]


@pytest.mark.slow
def test_sample_is_the_same_for_the_same_seed(finished, tmp_path):
    folder, _ = finished
    result = command(
        "sample", f"run={folder}", "n=16", "seed=0", f"out={tmp_path / 'deep' / 'a.png'}"
    )
    assert result.returncode == 0, result.stderr
    for name, seed in (("b", 0), ("c", 1)):
        call(
            "sample",
            sample,
            f"run={folder}",
            "n=16",
            f"seed={seed}",
            f"out={tmp_path / 'deep' / name}.png",
        )
    a, b, c = (np.asarray(Image.open(tmp_path / "deep" / f"{name}.png")) for name in "abc")
    assert a.shape == (4 * 58 + 2, 4 * 58 + 2)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_interpolate_draws_lines(finished, tmp_path):
    call(
        "sample",
        sample,
        f"run={finished[0]}",
        "n=3",
        "interpolate=8",
        "scale=1",
        f"out={tmp_path / 'x.png'}",
    )
    assert Image.open(tmp_path / "x.png").size == (8 * 30 + 2, 3 * 30 + 2)


def test_unwritable_picture_is_one_line(finished):
    with pytest.raises(UserError, match=r"out=/proc/x\.png cannot be written"):
        call("sample", sample, f"run={finished[0]}", "out=/proc/x.png")


def test_evaluate_reproduces_the_metrics_of_the_run(finished):
    folder, _ = finished
    before = json.loads((folder / "metrics.json").read_text())
    result = command("evaluate", f"run={folder}")
    assert result.returncode == 0, result.stderr
    after = json.loads((folder / "metrics.json").read_text())
    assert "test/d_loss" in result.stdout
    for name in ("test/d_loss", "test/d_real"):
        assert after[name] == pytest.approx(before[name], rel=1e-5), name
    assert after["seconds"] == before["seconds"], "what it did not measure stays"


@pytest.mark.parametrize(
    ("module", "args", "words"),
    [
        ("sample", ["n=4"], "run must be given"),
        ("sample", ["run=/nowhere"], "is not a run folder"),
        ("sample", ["run={run}", "n=0"], "n=0"),
        ("sample", ["run={run}", "out=x.txt"], "must end in one of .png"),
        ("sample", ["run={run}", "interpolate=1"], "a whole number of at least 2"),
        ("sample", ["run={run}", "sed=1"], "did you mean seed?"),
        ("evaluate", ["run=/nowhere"], "is not a run folder"),
        ("train", ["hydra.run.dir={run}"], "exists and is not empty"),
    ],
)
def test_wrong_settings_of_commands_get_one_line(finished, module, args, words):
    assert words in wrong(command(module, *(arg.format(run=finished[0]) for arg in args)))


@pytest.mark.slow
def test_launches_in_the_same_second_get_different_folders(tmp_path):
    args = [sys.executable, "-m", "src.train", *QUICK, "test=false", f"out={tmp_path}"]
    started = [subprocess.Popen(args, cwd=ROOT, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=200) for process in started] == [0, 0]
    folders = list((tmp_path / "gan_digits").iterdir())
    assert len(folders) == 2
    assert all((folder / "metrics.json").is_file() for folder in folders)


def test_existing_folder_name_gets_a_number(tmp_path):
    from src.core.new_runs import reserved

    for name in ("x", "x-2", "x-3"):
        with reserved(tmp_path / "x", exact=False) as folder:
            assert folder.name == name


@pytest.mark.slow
def test_a_sweep_runs_the_grid(tmp_path):
    result = command(
        "train",
        "-m",
        *QUICK,
        "seed=0,1",
        "model/loss=bce,lsgan",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    )
    assert result.returncode == 0, result.stderr
    figures = [
        json.loads((tmp_path / "sweep" / name / "metrics.json").read_text())["test/d_loss"]
        for name in ("seed=0,loss=bce", "seed=0,loss=lsgan", "seed=1,loss=bce", "seed=1,loss=lsgan")
    ]
    assert len(set(figures)) == 4


@pytest.mark.slow
def test_a_signal_ends_all_jobs_of_a_sweep(tmp_path):
    sweep = [
        *QUICK,
        "trainer.max_epochs=500",
        "seed=0,1,2",
        f"hydra.sweep.dir={tmp_path}",
        "checkpoint.every_n_batches=2",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "src.train", "-m", *sweep],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "seed=0" / "checkpoints" / "last.ckpt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert "resume=" in stderr
    assert not (tmp_path / "seed=1").exists()


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path):
    """trainer=ddp on two CPU processes: each image is seen once per epoch; both end with the
    same weights."""
    folder = tmp_path / "ddp"
    result = command("train", *QUICK, "trainer=ddp", "trainer.accelerator=cpu",
                     "trainer.devices=2", "trainer.max_epochs=2",
                     "test=false", f"hydra.run.dir={folder}")  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (
        json.loads((folder / "metrics.json").read_text())["batches"] == 4
    )  # 100 images, 2 x 32 a step, 2 epochs
