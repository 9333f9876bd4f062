"""A run imports only what it needs: slow packages wait until they are used."""

import ast
import subprocess
import sys

import pytest
import torch

import src
from src.core.light_torchmetrics import LightPackage, install
from tests.conftest import ROOT

SLOW = {"matplotlib", "pandas", "scipy", "sklearn", "torchmetrics", "torchvision"}
# modules that are imported only by a choice of the config which needs torchvision
NEED_TORCHVISION = {"mnist.py", "pets.py", "torchvision_sets.py", "available.py"}


def test_slow_packages_are_imported_only_inside_functions():
    for path in (ROOT / "src").rglob("*.py"):
        allowed = {"torchvision"} if path.name in NEED_TORCHVISION else set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:  # the top level
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                module = getattr(node, "module", "") or ""
                names = [module] if module else [alias.name for alias in node.names]
                words = {name.partition(".")[0] for name in names}
                assert not words & (SLOW - allowed), path


@pytest.fixture
def light(tmp_path, monkeypatch):
    """A package like torchmetrics: its __init__ notes that it ran."""
    files = {
        "__init__": "ran = True\nfrom fake_metrics.metric import Metric",
        "metric": "from fake_metrics.utilities.imports import _MATPLOTLIB_AVAILABLE\n"
        "class Metric: plots = _MATPLOTLIB_AVAILABLE",
        "utilities/__init__": "",
        "utilities/imports": "_MATPLOTLIB_AVAILABLE = True",
    }
    for name, text in files.items():
        path = tmp_path / "fake_metrics" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    names = [name for name in files if name != "__init__"]
    yield lambda: install("fake_metrics", names)
    for name in [name for name in sys.modules if name.startswith("fake_metrics")]:
        del sys.modules[name]


def test_torchmetrics_runs_its_init_only_for_more_than_lightning_needs(light):
    light()
    import fake_metrics

    assert isinstance(fake_metrics, LightPackage)
    metric = fake_metrics.Metric
    assert not metric.plots
    assert not hasattr(fake_metrics, "__wrapped__")
    assert "ran" not in vars(fake_metrics)
    assert fake_metrics.ran
    assert fake_metrics.Metric is metric
    with pytest.raises(AttributeError):
        fake_metrics.unknown  # noqa: B018


def test_torchmetrics_that_is_arranged_differently_is_imported_as_usual(light, tmp_path):
    (tmp_path / "fake_metrics" / "utilities" / "imports.py").unlink()
    light()
    assert "fake_metrics" not in sys.modules


def test_light_torchmetrics_has_everything():
    import torchmetrics
    from pytorch_lightning.core.module import Metric

    assert src  # registers the package
    assert torchmetrics.Metric is Metric
    accuracy = torchmetrics.Accuracy("multiclass", num_classes=3)
    assert accuracy(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1])) == pytest.approx(2 / 3)
    assert torchmetrics.__version__


@pytest.mark.slow
def test_a_run_imports_no_slow_package_before_its_end(tmp_path):
    run = (
        "import sys; from src.train import run; "
        "run(['model=fc', 'data=digits', 'trainer=debug', 'callbacks=none', 'test=false'], "
        f"__import__('pathlib').Path({str(tmp_path / 'run')!r})); "
        f"print(sorted({SLOW - {'torchmetrics'}} & set(sys.modules)), "
        "'torchmetrics.functional' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", run], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[] False"
