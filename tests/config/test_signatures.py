"""Signatures and attributes read from source equal those that Python reports."""

import inspect
import re
import subprocess
import sys
from importlib import import_module

import pytest

from src.config.compose import CONF
from src.config.signatures import class_attribute, signature
from tests.conftest import ROOT

TARGETS = sorted(
    {
        target
        for path in CONF.rglob("*.yaml")
        for target in re.findall(r"^\s*_target_: (\S+)", path.read_text(), re.MULTILINE)
    }
)
MORE = ["torch.optim.Adagrad", "torch.optim.Muon", "torch.nn.Linear", "torch.nn.ReLU6",
        "pytorch_lightning.callbacks.LearningRateMonitor"]  # fmt: skip


@pytest.mark.parametrize("target", [*TARGETS, *MORE])
def test_parameters_are_those_that_inspect_finds(target):
    known = signature(target)
    named = [p for p in parameters_of(target) if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    assert {p.name for p in named} <= known.parameters.keys()
    if target.startswith(("torch.", "pytorch_lightning.")) or len(named) == len(
        parameters_of(target)
    ):
        assert list(known.parameters) == [p.name for p in named]
        assert known.required == {p.name for p in named if p.default is p.empty}


def parameters_of(target):
    module, _, name = target.rpartition(".")
    return list(inspect.signature(getattr(import_module(module), name)).parameters.values())


def test_kwargs_stand_for_the_parameters_of_the_function_they_are_passed_to():
    folder, winter, base = (
        signature(f"src.data.{name}")
        for name in ("sets.folder.Folder", "sets.unpaired.Winter", "image_data.ImageData")
    )
    assert folder.parameters.keys() == {*base.parameters, "classes", "exclude"}
    assert folder.required == base.required
    assert (
        winter.parameters.keys() == base.parameters.keys()
    )  # it gives its parent root_a and root_b itself
    resnet = signature("torchvision.models.resnet18")
    assert "width_per_group" in resnet.parameters
    assert not resnet.accepts_any_keyword


@pytest.mark.parametrize(
    "target",
    ["torch.optim.Nothing", "torchvision.models.resnet99", "nowhere.x", "src.nets.fc.x", "src", ""],
)
def test_unknown_names_have_no_signature(target):
    assert signature(target) is None


def test_reading_a_signature_imports_nothing():
    code = (
        "import sys; from src.config.signatures import signature\n"
        "assert signature('torch.optim.Adam') and signature('src.models.gan.GAN')\n"
        "assert signature('torchvision.models.vgg16')\n"
        "heavy = ('torch', 'torchvision', 'pytorch_lightning')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "target", [name for name in TARGETS if name.startswith(("src.models", "src.data.sets"))]
)
def test_class_attributes_are_those_that_python_finds(target):
    module, _, name = target.rpartition(".")
    found = getattr(import_module(module), name)
    for key in ("takes", "sentences", "supports", "holds", "can_augment", "state_keys"):
        assert class_attribute(target, key) == getattr(found, key, None)
    assert class_attribute(target, "nothing") is None
