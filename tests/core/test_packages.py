"""Packages that only some commands need: the extras of pyproject.toml."""

import ast
import re
import sys
import tomllib

import pytest

from src.config.inputs import expect_packages
from src.core.errors import UserError
from src.core.packages import require
from src.evaluate import evaluate
from src.export import export
from tests.conftest import ROOT, TINY, call

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
# imported at the top of a module only where that module is imported late
OPTIONAL = {"onnx", "onnxscript", "onnxruntime", "torch_fidelity", "mlflow", "wandb", "kornia",
            "pillow_heif"}  # fmt: skip
LATE = {"src/metrics/inception.py"}


def name_of(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower()


def test_message_names_what_is_missing_and_its_extra():
    require("src.x", "json")
    with pytest.raises(UserError, match=r"^src.x needs nothing1, which is not installed: "
                                        r"pip install '\.\[extra\]'$"):  # fmt: skip
        require("src.x", "extra", "json", "nothing1")
    with pytest.raises(UserError, match="needs nothing1, nothing2, which are not installed"):
        require("src.x", "extra", "nothing1", "nothing2")


def test_every_extra_in_a_message_exists():
    for path in (ROOT / "src").rglob("*.py"):
        for extra in re.findall(r"\.\[(\w+)\]'", path.read_text()):
            assert extra in EXTRAS, path


def test_no_package_is_listed_twice():
    groups = [PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"].values()]
    names = [name_of(line) for part in (*groups, *EXTRAS.values()) for line in part]
    assert sorted(names) == sorted(set(names))


def test_installing_the_project_puts_no_module_into_site_packages():
    assert PROJECT["tool"]["setuptools"]["packages"] == []


def test_optional_packages_are_imported_where_they_are_needed():
    for path in (ROOT / "src").rglob("*.py"):
        name = str(path.relative_to(ROOT))
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom) and name not in LATE:
                first = [alias.name for alias in node.names]
                first = [node.module or ""] if isinstance(node, ast.ImportFrom) else first
                assert not OPTIONAL.intersection(full.split(".")[0] for full in first), name


def test_commands_name_the_extra_before_they_read_the_run(monkeypatch, gan_run, config):
    for package in ("onnxscript", "torch_fidelity"):
        monkeypatch.setitem(sys.modules, package, None)  # an import of it fails
    with pytest.raises(UserError, match=r"format=onnx needs onnxscript.*'\.\[export\]'"):
        call("export", export, "run=none")
    with pytest.raises(UserError, match=r"inception=true needs torch_fidelity.*'\.\[inception\]'"):
        call("evaluate", evaluate, f"run={gan_run}", "inception=true")
    cfg = config(*TINY, "callbacks=default", "callbacks.quality.inception=true")
    with pytest.raises(UserError, match=r"callbacks\.quality\.inception needs torch_fidelity"):
        expect_packages(cfg)
