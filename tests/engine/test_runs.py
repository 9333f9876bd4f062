"""Loading a run refuses data that no longer fit, and damaged checkpoints."""

import os
import shutil
import subprocess
import sys

import pytest
from omegaconf import OmegaConf
from PIL import Image

from src.config.compose import compose
from src.core import new_runs, runs
from src.core.errors import UserError
from src.core.files import write_atomically
from src.engine import build
from src.evaluate import evaluate
from src.train import train
from tests.conftest import ROOT, TINY, command, wrong
from tests.engine.interruptions import uninterrupted_run


@pytest.fixture(scope="module")
def folder_run(tmp_path_factory):
    """Return the folders of a finished run and of its two classes of images."""
    top = tmp_path_factory.mktemp("folder")
    for i in range(20):
        path = top / "images" / ("cats", "dogs")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 12 * i).save(path)
    data = (
        "data=folder",
        f"data.root={top / 'images'}",
        "data.size=8",
        "data.channels=1",
        f"cache={top / 'cache'}",
    )
    return uninterrupted_run(
        top / "run", ("model=fc", *data, *TINY, "trainer.max_epochs=1")
    ), top / "images"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("dogs/1.png", "emus/1.png", "new: emus"),  # the network would not fit
        ("dogs", "aardvarks", "new: aardvarks; gone: dogs"),  # it would, and call dogs cats
    ],
)
def test_a_folder_whose_classes_changed_is_refused(folder_run, tmp_path, old, new, words):
    finished, images = folder_run
    folder = shutil.copytree(finished, tmp_path / "run")
    now = shutil.copytree(images, tmp_path / "images")
    (now / new).parent.mkdir(exist_ok=True)
    (now / old).rename(now / new)
    cfg = runs.load_config(folder)
    cfg.data.root, cfg.resume = str(now), str(folder)
    for again in (
        lambda: train(cfg, folder),
        lambda: evaluate(compose("evaluate", [f"run={folder}", f"data.root={now}"])),
    ):
        with pytest.raises(UserError) as error:
            again()
        assert (
            str(error.value)
            == f"folder in {now} has other classes than the data of the run ({words})"
        )


def test_an_unchanged_folder_is_accepted(folder_run):
    finished, _ = folder_run
    before = runs.read_metrics(finished)
    assert evaluate(compose("evaluate", [f"run={finished}"]))["test/acc"] == before["test/acc"]


def test_other_pixel_orders_are_refused(config):
    plain, mixed, other = (
        build.datamodule(config("model=fc", f"data.permute={permute}", f"data.split_seed={seed}"))
        for permute, seed in (("false", 0), ("true", 0), ("true", 1))
    )
    mixed.load_state_dict(mixed.state_dict())
    plain.load_state_dict({})  # of a run older than this check
    for now, learned in ((plain, mixed), (mixed, plain), (other, mixed)):
        with pytest.raises(UserError, match="digits: the pixels have another order"):
            now.load_state_dict(learned.state_dict())


def test_missing_checkpoint_is_an_error(tmp_path):
    assert "is not a run folder" in wrong(command("train", f"resume={tmp_path}"))
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("seed: 0\n")
    assert "has no checkpoint" in wrong(command("train", f"resume={tmp_path}"))


def test_a_flipped_byte_is_an_error(folder_run, tmp_path):
    data = bytearray((folder_run[0] / "checkpoints" / "last.ckpt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "flipped.ckpt").write_bytes(data)
    with pytest.raises(UserError, match="damaged checkpoint"):
        runs.load_checkpoint(tmp_path / "flipped.ckpt")
    (tmp_path / "short.ckpt").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="damaged checkpoint"):
        runs.load_checkpoint(tmp_path / "short.ckpt")


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    target = tmp_path / "last.ckpt"
    target.write_text("old")

    def half(path):
        path.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(target, half)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_config_with_any_letters_is_saved_whatever_the_locale(tmp_path):
    code = """
import sys
from pathlib import Path
from omegaconf import OmegaConf
from src.core import runs
folder = Path(sys.argv[1])
runs.write_config(folder, OmegaConf.create({"data": {"root": "\\u5199\\u771f"}}))
"""
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code, tmp_path], env=os.environ | locale, check=True,
                   cwd=ROOT)  # fmt: skip
    assert OmegaConf.load(runs.config_path(tmp_path)).data.root == "\u5199\u771f"


def test_a_folder_with_files_of_the_user_is_not_reused(tmp_path):
    """Any Hydra application makes a .hydra folder."""
    for name in (".hydra/config.yaml", "train.log", "images/samples_00000001.png"):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).touch()
    with new_runs.reserved(tmp_path / "run", exact=True) as folder:
        assert [path.name for path in folder.iterdir()] == [".lock"], "a run that never trained"
    for name in (".hydra/config.yaml", "results.csv"):
        (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / name).touch()
    with (
        pytest.raises(UserError, match="exists and is not empty"),
        new_runs.reserved(tmp_path / "run", exact=True),
    ):
        pass
    assert (tmp_path / "run" / "results.csv").is_file()
