"""The notebooks are committed without outputs, and show the documented values when executed."""

import ast
import json
import os
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from notebooks.execute import HERE, execute, main
from src.core.errors import UserError
from tests.conftest import ROOT

NOTEBOOKS = sorted(HERE.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_holds_no_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in cells] == [([], None)] * len(cells)


def test_notebooks_use_the_project_as_it_is(tmp_path):
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        (tmp_path / f"{path.stem}_cells.py").write_text(code)
    (tmp_path / "wrong_cells.py").write_text("from src.losses import gram\ngram(1, 2)")
    words = [sys.executable, "-m", "mypy", *map(str, tmp_path.glob("*.py"))]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    kinds = ("[call-arg]", "[arg-type]", "[attr-defined]", "[import-not-found]")
    wrong = [line for line in result.stdout.splitlines() if line.endswith(kinds)]
    assert wrong, result
    assert all("wrong_cells.py" in line for line in wrong)


def test_a_failing_cell_is_named_in_one_line(tmp_path, monkeypatch):
    """The kernel is this Python, even if a user has installed another one under its name."""
    installed = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    installed.parent.mkdir(parents=True)
    installed.write_text(json.dumps({"argv": ["false"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    sources = [
        "import sys, src.config.checks\nsys.executable",
        "raise ValueError('first\\nsecond')",
        "'not reached'",
    ]
    nbformat.write(
        new_notebook(cells=[new_code_cell(source) for source in sources]), tmp_path / "broken.ipynb"
    )
    folder = tmp_path / "executed"
    folder.mkdir()
    with pytest.raises(UserError) as raised:
        execute(tmp_path / "broken.ipynb", folder)
    copy = folder / "broken.ipynb"
    assert (
        str(raised.value)
        == f"broken.ipynb, cell [2]: ValueError: first (as far as it came: {copy})"
    )
    first, second, third = nbformat.read(copy, as_version=4).cells
    assert ast.literal_eval(first.outputs[0].data["text/plain"]) == sys.executable
    assert second.outputs[0].ename == "ValueError"
    assert not third.outputs


def test_the_notebooks_own_folder_is_refused(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match="choose another folder"):
        main(HERE.relative_to(ROOT))


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Run the notebooks without MNIST: notebook -> (value of its last cell, number of pictures)."""
    folder = tmp_path_factory.mktemp("executed")
    environment = {name: value for name, value in os.environ.items() if name != "DATA"}
    command = [sys.executable, "-m", "notebooks.execute", str(folder)]
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=3600
    )
    print(result.stdout)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    shown = {}
    for path in NOTEBOOKS:
        cells = nbformat.read(folder / path.name, as_version=4).cells
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        value = ast.literal_eval(cells[-1].outputs[-1].data["text/plain"])
        shown[path.stem] = value, sum("image/png" in output.get("data", {}) for output in outputs)
    return shown


@pytest.mark.slow
def test_the_tours_totals(executed):
    value, pictures = executed["convnet_tour"]
    sizes = value.pop("sizes")
    assert sizes == [55, 27, 27, 13, 13, 13, 13, 6]
    published = {
        "alexnet": (61_100_840, 0.714),
        "vgg16": (138_357_544, 15.47),
        "googlenet": (6_624_904, 1.498),
    }
    published |= {
        "resnet50": (25_557_032, 4.089),
        "zfnet": (107_627_624, 2.477),
    }  # the last by hand
    assert {
        name: (net["parameters"], round(net["multiply_adds"] / 1e9, 3))
        for name, net in value.items()
    } == published
    in_fc = {name: round(net["fc_parameters"], 2) for name, net in value.items()}
    assert in_fc == {
        "alexnet": 0.96,
        "zfnet": 0.90,
        "vgg16": 0.89,
        "googlenet": 0.15,
        "resnet50": 0.08,
    }
    assert pictures == 3


@pytest.mark.slow
def test_the_filters_keep_or_remove_the_mean(executed):
    value, pictures = executed["filters"]
    mean = value["identity"]["mean"]
    for name in ("box blur", "Gaussian blur", "sharpen"):
        assert value[name]["mean"] == pytest.approx(mean, abs=2e-3), name
    for name in set(value) - {"identity", "box blur", "Gaussian blur", "sharpen"}:
        assert value[name]["mean"] == pytest.approx(0, abs=0.02), name
        assert -1 <= value[name]["least"] < -0.3
        assert 0.3 < value[name]["greatest"] <= 1
    assert len(value) == pictures == 8


@pytest.mark.slow
def test_the_cnn_loses_what_the_perceptron_never_had(executed):
    value, pictures = executed["prior"]
    assert value["data"] == "digits"
    assert value["losses"]["cnn"] > 0
    assert value["losses"]["fc"] < value["losses"]["cnn"]
    for net, loss in value["losses"].items():
        plain, permuted = value[f"{net}, plain"], value[f"{net}, permuted"]
        assert loss == pytest.approx(plain[0] - permuted[0])
        assert all(0.8 < low < acc < high < 1 for acc, low, high in (plain, permuted))
    assert pictures == 2


@pytest.mark.slow
def test_a_composed_map_is_sampled_once(executed):
    value, pictures = executed["augmentations"]
    assert value["composed"] == 0
    assert value["sampled twice"] > 0.01
    assert pictures == 1


@pytest.mark.slow
def test_the_main_path_from_python_trains_predicts_and_samples(executed):
    value, pictures = executed["start"]
    assert value["accuracy"] > 0.9
    assert value["right of 12"] >= 9
    assert value["batches"] == 600
    assert value["samples"] == [16, 1, 28, 28]
    assert pictures == 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pictures"), [("vae", 2), ("draw", 3)])
def test_the_bound_of_a_notebook_is_the_sum_of_its_parts(executed, name, pictures):
    value, found = executed[name]
    assert value["bound"] == pytest.approx(value["parts"], abs=1e-3)
    assert value["bound"] < 200  # a uniform guess has 28 * 28 * log 2 = 543 nats
    assert found == pictures


@pytest.mark.slow
def test_the_latent_plane_separates_classes(executed):
    assert executed["vae"][0]["same class"] > 0.4  # chance: 0.1


@pytest.mark.slow
def test_drawing_has_ten_steps_with_a_window_each(executed):
    value, _ = executed["draw"]
    assert value["steps"] == len(value["sides"]) == 10
    assert min(value["sides"]) > 0


@pytest.mark.slow
def test_all_losses_of_a_gan_are_measured(executed):
    value, pictures = executed["gan"]
    assert list(value) == ["bce", "hinge", "wgan_gp"]
    for metrics in value.values():
        assert 0 <= metrics["test/least_class"] <= 0.1
        assert 0 <= metrics["test/precision"] <= 1
        assert 0 <= metrics["test/recall"] <= 1
        assert metrics["test/fid_own"] > 0
    assert pictures == 2


@pytest.mark.slow
def test_a_sweep_read_with_pandas_has_the_best_of_best_yaml(executed):
    value, pictures = executed["sweep"]
    assert value["jobs"] == value["finished"] == 18
    assert value["groups"] == 6
    assert value["best"]["model.optimizer.lr"] == value["recipe"]
    assert value["validation"] > 0.9
    assert len(set(value["test"])) > 1, "one accuracy for each seed"
    assert min(value["test"]) > 0.85
    assert pictures == 2
