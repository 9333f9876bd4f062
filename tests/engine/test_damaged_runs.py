"""Runs with files that are damaged or of another run: one line names the file before training,
and nothing is lost."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from src.config.checks import check
from src.config.compose import compose
from src.config.resume import resume_run
from src.core import runs
from src.core.errors import UserError
from src.evaluate import evaluate
from src.predict import predict
from src.train import train
from tests.conftest import ROOT, TINY, TINY_NETS, call, saved
from tests.properties import refused

QUICK = (*TINY, "trainer.max_epochs=1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of a finished classifier's run."""
    return trained(tmp_path_factory.mktemp("finished") / "run", "model=fc")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Return the folder of a finished GAN's run."""
    return trained(tmp_path_factory.mktemp("other") / "run", *TINY_NETS)


def trained(folder, *overrides):
    cfg = compose("train", [*QUICK, *overrides])
    check(cfg)
    train(cfg, saved(cfg, folder))
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def resume(folder):
    """Continue a run, as `python -m src.train resume=` does."""
    resume_run(train, folder, ["trainer.max_epochs=2"])


def line(action, *args):
    """Return the line that a user reads."""
    return refused(lambda: action(*args)) or ""


@pytest.mark.slow
@pytest.mark.parametrize("content", [b'{"test/acc": 0.', b"\xff\xfe\x00\x01", b"[1, 2]", b""])
def test_broken_metrics_json_is_renamed_and_a_new_one_written(folder, content, capsys):
    (folder / "metrics.json").write_bytes(content)
    resume(folder)
    said = capsys.readouterr().err
    kept = next(words for words in said.splitlines() if "metrics.json is damaged" in words)
    assert kept.endswith(f"renamed to {folder / 'metrics.json.damaged'}")
    assert said.index(kept) < said.index("resuming")
    assert (folder / "metrics.json.damaged").read_bytes() == content
    assert json.loads((folder / "metrics.json").read_text())["batches"] == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", [b"batches,test/acc\n4,0.5,7\n", b"\x00\xff\xfe", b"batches,a\n4,x\n", b"a,b\n1,2\n"]
)
def test_broken_metrics_csv_is_renamed(folder, content, capsys):
    (folder / "metrics.csv").write_bytes(content)
    resume(folder)
    assert f"renamed to {folder / 'metrics.csv.damaged'}" in capsys.readouterr().err
    assert (folder / "metrics.csv.damaged").read_bytes() == content
    assert "test/acc" in (folder / "metrics.csv").read_text()


def test_evaluate_renames_a_broken_metrics_json_too(folder):
    (folder / "metrics.json").write_text("{")
    call("evaluate", evaluate, f"run={folder}")
    assert "test/acc" in json.loads((folder / "metrics.json").read_text())
    assert (folder / "metrics.json.damaged").read_text() == "{"


def test_renamed_broken_files_do_not_overwrite_each_other(folder):
    for number in range(3):
        (folder / "metrics.json").write_text("{" * (number + 1))
        runs.write_metrics(folder, {"test/acc": 0.5})
    kept = sorted(path.name for path in folder.glob("metrics.json.damaged*"))
    assert kept == ["metrics.json.damaged", "metrics.json.damaged-2", "metrics.json.damaged-3"]


@pytest.mark.slow
@pytest.mark.parametrize("content", [{}, [], {"state_dict": {}}, {"state_dict": 1, "loops": {}}])
def test_checkpoint_that_training_did_not_write(folder, photos, content):
    path = folder / "checkpoints" / "last.ckpt"
    torch.save(content, path)
    images = ("predict", predict, f"run={folder}", f"images={photos}")
    for said in (line(resume, folder), line(call, *images)):
        assert f"{path} is not a training checkpoint" in said


def test_checkpoint_of_another_family(folder, other):
    path = folder / "checkpoints" / "last.ckpt"
    shutil.copyfile(other / "checkpoints" / "last.ckpt", path)
    before = (folder / "metrics.csv").read_bytes()
    assert f"{path} does not fit the Classifier that the run's config describes" in line(
        resume, folder
    )
    assert (folder / "metrics.csv").read_bytes() == before
    assert f"{path} does not fit the Classifier" in line(
        call, "evaluate", evaluate, f"run={folder}"
    )


def test_checkpoint_of_other_optimizers(folder):
    cfg = runs.load_config(folder)
    cfg.model.optimizer = {
        "_target_": "torch.optim.Adam",
        "_partial_": True,
        "lr": 1e-3,
        "betas": [0.9, 0.999],
    }
    runs.write_config(folder, cfg)
    assert "has other optimizers than the run's config describes" in line(resume, folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it names no model"),
        (b"\xff\xfe\x00", "is damaged"),
        (b"- 1\n- 2\n", "it has no settings"),
        (b"a: [", "is damaged"),
        (b"data: 3\n", "it names no model"),
        (
            b"model: {_target_: src.models.classifier.Classifier}\n",
            "is missing: a config must have it",
        ),
    ],
)
def test_file_that_is_not_a_config(folder, content, words):
    path = folder / ".hydra" / "config.yaml"
    path.write_bytes(content)
    for said in (line(resume, folder), line(call, "evaluate", evaluate, f"run={folder}")):
        assert str(path) in said
        assert words in said


def test_unwritable_log_is_one_line(folder):
    (folder / "train.log").unlink(missing_ok=True)
    (folder / "train.log").mkdir()
    assert f"{folder / 'train.log'} cannot be written: " in line(resume, folder)


def test_a_config_of_another_version_gets_one_line(folder):
    cfg = runs.load_config(folder)
    del cfg.trainer["max_time"]
    runs.write_config(folder, cfg)
    with pytest.raises(UserError, match=r"max_time is missing.* another version of the project"):
        call("evaluate", evaluate, f"run={folder}")


@pytest.mark.slow
def test_a_closed_pipe_ends_quietly_and_the_files_are_written(folder, photos, tmp_path):
    args = [
        f"run={folder}",
        f"images={photos}",
        f"out={tmp_path / 'a.csv'}",
        f"picture={tmp_path / 'a.png'}",
        "top=10",
    ]
    for module, given in (("predict", args), ("train", ["--help"])):
        reader, writer = os.pipe()
        os.close(reader)  # as `| head` does when it has seen enough
        process = subprocess.run(
            [sys.executable, "-m", f"src.{module}", *given],
            cwd=ROOT,
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(writer)
        assert process.stderr == b""
        assert process.returncode == 141
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 73
    assert (tmp_path / "a.png").is_file()
