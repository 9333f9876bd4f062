"""Wrong options and missing files get one line before torch is imported."""

import re
import subprocess
import sys

import pytest

from src.config.checks import check
from src.config.cli import check_job
from src.config.compose import compose
from src.config.hydra_app import parse_options
from src.config.inputs import expect_data
from src.core.errors import UserError
from tests.conftest import ROOT, child_seconds, command, wrong

SCRIPT = """
import runpy, sys
try:
    runpy.run_module("src.{}", run_name="__main__")
finally:
    print("torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--modle", "gan"], "unknown option --modle; did you mean model=...?"),
        (["--sed=1"], "unknown option --sed=1; did you mean seed=...?"),
        (["-q"], "unknown option -q; a setting is written NAME=VALUE"),
        (["--cfg"], "argument --cfg/-c: expected one argument"),
    ],
)
def test_a_wrong_option_gets_one_line(arguments, words):
    with pytest.raises(UserError, match=f"^{re.escape(words)}"):
        parse_options("train", arguments)


STOPPING = "callbacks=[default,early_stopping]"


@pytest.mark.parametrize(
    ("overrides", "setting", "family"),
    [
        (["model=dcgan", STOPPING], "callbacks.early_stopping", "GAN"),
        (["model=gan", "model/schedule=plateau"], "model.schedule", "GAN"),
        (["model=word_vectors", "data=reviews", STOPPING], "callbacks.early_stopping", "WordV"),
    ],
)
def test_early_stopping_of_a_family_without_a_metric_is_refused(overrides, setting, family):
    with pytest.raises(UserError, match=rf"^{setting}\.monitor must be given: a {family}"):
        check(compose("train", overrides))
    monitored = [*overrides, f"{setting}.monitor=val/fid_own"]
    check(compose("train", [*monitored, "callbacks.quality.every_n_epochs=1"]))
    if family == "GAN":
        check(compose("train", [*monitored, "trainer.max_epochs=1"]))
        rarely = [*monitored, "trainer.check_val_every_n_epoch=4"]
        check(compose("train", [*rarely, "callbacks.quality.every_n_epochs=2"]))
        with pytest.raises(UserError, match=rf"^{setting}\.monitor=val/fid_own must be .*epochs=4"):
            check(compose("train", rarely))
    with pytest.raises(UserError, match=rf"^{setting}\.mode must be given, min or max: .*d_real"):
        check(compose("train", [*overrides, f"{setting}.monitor=val/d_real"]))


@pytest.mark.parametrize(
    "overrides",
    [
        ["data=folder", "data.root=/nowhere"],
        ["data=mnist", "data.root=/nowhere", "data.download=false"],
        ["data=binarized_mnist", "data.root=/nowhere"],
        ["model=cyclegan", "data=unpaired", "data.root_b=/nowhere", "data.root_a=."],
        ["model=cyclegan", "data=winter", "data.root=/nowhere"],
        ["model=sentiment", "data=reviews", "data.root=/nowhere"],
        ["model=style_transfer", "data=style_pair", "data.content=.", "data.style=/nowhere"],
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_missing_data_are_found_in_the_config(overrides):
    cfg = compose("train", overrides)
    check(cfg)
    with pytest.raises(UserError, match=r"^data\.\w+=/nowhere cannot be read: No such file"):
        expect_data(cfg.data)


def test_data_that_can_be_downloaded_may_be_missing():
    for overrides in (["data=mnist", "data.root=/nowhere"], ["model=word_vectors", "data=reviews"]):
        expect_data(compose("train", overrides).data)


@pytest.mark.parametrize(
    ("module", "arguments", "name"),
    [
        ("train", ["data=folder", "data.root=/nowhere"], "data.root=/nowhere"),
        ("train", ["model=vgg", "model.init_from=/nowhere"], "model.init_from=/nowhere"),
        ("train", ["model=timm", "model.net.model_name=resnet19"], "did you mean resnet18?"),
        ("train", ["resume=/nowhere"], "/nowhere is not a run folder"),
        ("augment", ["data.root=/nowhere", "augment=flip", "out=x"], "data.root=/nowhere"),
        ("augment", ["preview=/nowhere", "out=x.png"], "preview=/nowhere"),
        (
            "augment",
            ["data.root=tests", "augment=model", "augment.run=/nowhere", "out=x"],
            "/nowhere is not a run folder",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_missing_path_or_name_is_answered_without_torch(module, arguments, name, tmp_path):
    script = SCRIPT.format(module)
    more = [f"hydra.run.dir={tmp_path / 'run'}"] if module == "train" else []
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments, *(more if "resume" not in name else [])],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert name in wrong(result)
    assert result.stdout.strip() == "False"
    assert not (tmp_path / "run").exists()


def test_a_mistake_imports_no_torch_and_leaves_no_folder(tmp_path):
    before = child_seconds()
    line = wrong(command("train", "model=dcgn", f"out={tmp_path / 'runs'}"))
    assert child_seconds() - before < 3
    assert "did you mean dcgan?" in line
    assert not (tmp_path / "runs").exists()
    heavy = (
        "import sys, src.train, src.predict, src.export, src.bench.leave_one_out; "
        "print([m for m in ('torch', 'pytorch_lightning', 'timm', 'sklearn') if m in sys.modules])"
    )
    imported = subprocess.run(
        [sys.executable, "-c", heavy], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert imported.stdout.strip() == "[]"


def test_an_option_may_stand_between_settings():
    args = parse_options("train", ["model=fc", "-m", "seed=0,1"])
    assert args.multirun
    assert args.overrides == ["model=fc", "seed=0,1"]


@pytest.mark.parametrize("name", ["null", "conf", "''"])
def test_the_config_of_a_run_is_always_in_its_hydra_folder(name):
    with pytest.raises(UserError, match=r"hydra.output_subdir=.*: must be .hydra"):
        check_job("train", [f"hydra.output_subdir={name}"])
    assert check_job("train", ["hydra.output_subdir=.hydra"]).seed == 0


def test_lightning_may_start_other_processes_without_a_hydra_folder(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert check_job("train", ["hydra.output_subdir=null"]).seed == 0
