"""Exported classifiers: their logits against the network and NumPy, with average, normalization and
permutation."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from src import export as exports
from src.core.errors import UserError
from src.data.decode import Fit
from src.engine import build
from src.engine.load import LoadedClassifier, load_classifier, load_run
from src.export import export, write_onnx, write_torch
from src.models.deployed import DeployedClassifier
from tests.conftest import call, command, logits_of_the_average


def session_of(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def onnx_file(averaged_run, tmp_path_factory):
    """Return the file that the command writes, and its output."""
    out = tmp_path_factory.mktemp("exported") / "deep" / "mlp"
    result = command("export", f"run={averaged_run}", f"out={out}")
    assert result.returncode == 0, result.stderr
    return out.with_suffix(".onnx"), result.stdout + result.stderr


def test_onnx_logits_equal_those_of_the_average(averaged_run, onnx_file):
    path, said = onnx_file
    session = session_of(path)
    for n in (1, 2, 5):
        images = np.random.default_rng(n).random((n, 1, 28, 28), dtype=np.float32)
        (logits,) = session.run(["logits"], {"images": images})
        assert logits == pytest.approx(logits_of_the_average(averaged_run, images), abs=1e-4)
    assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [
        ("images", ["batch", 1, 28, 28], "tensor(float)")
    ]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [("logits", ["batch", 10])]
    described = session.get_modelmeta().custom_metadata_map
    assert json.loads(described["class_names"]) == [str(k) for k in range(10)]
    assert json.loads(described["size"]) == [28, 28]
    assert [file.name for file in path.parent.iterdir()] == ["mlp.onnx"], (
        "one file, its weights inside"
    )
    assert len(said.splitlines()) == 1
    assert said.startswith(f"{path}: 10 classes")


def test_exported_program_logits_equal_those_of_the_average(averaged_run, tmp_path, capfd):
    out = call("export", export, f"run={averaged_run}", "format=torch", f"out={tmp_path}/mlp.pt2")
    assert len("".join(capfd.readouterr()).splitlines()) == 1
    extra = {"class_names": "", "size": "", "crop": "", "interpolation": ""}
    program = torch.export.load(out, extra_files=extra).module()
    for n in (1, 2, 5):
        images = torch.rand(n, 1, 28, 28)
        assert program(images).detach().numpy() == pytest.approx(
            logits_of_the_average(averaged_run, images.numpy()), abs=1e-4
        )
    assert json.loads(extra["class_names"]) == [str(k) for k in range(10)]
    assert json.loads(extra["size"]) == [28, 28]


@pytest.mark.parametrize("extension", ["onnx", pytest.param("pt2", marks=pytest.mark.slow)])
def test_export_includes_the_pixel_permutation(permuted_run, tmp_path, extension):
    out = call(
        "export",
        export,
        f"run={permuted_run}",
        f"out={tmp_path}/x.{extension}",
        f"format={exports_as(extension)}",
    )
    cfg, model, _ = load_run(permuted_run)
    permuted = build.datamodule(cfg).test.images[:4].float() / 255
    cfg.data.permute = False
    images = build.datamodule(cfg).test.images[:4].float() / 255
    with torch.no_grad():
        expected = model(permuted).numpy()
        if extension == "onnx":
            logits = session_of(out).run(None, {"images": images.numpy()})[0]
        else:
            logits = torch.export.load(out).module()(images).numpy()
    assert logits == pytest.approx(expected, abs=1e-4)


def exports_as(extension):
    return next(name for name, suffix in exports.EXTENSIONS.items() if suffix == f".{extension}")


def test_failed_export_is_one_line_and_leaves_no_file(averaged_run, gan_run, tmp_path, monkeypatch):
    def line(*overrides, run=averaged_run):
        with pytest.raises(UserError) as error:
            call("export", export, f"run={run}", *overrides)
        return str(error.value)

    assert "holds a GAN" in line(run=gan_run)
    assert "with format=onnx the name must end in .onnx" in line("out=x.pt2")
    assert "format=jit: must be one of onnx, torch" in line("format=jit")
    assert "cannot be written" in line("format=torch", "out=/proc/x.pt2")
    (tmp_path / "x.pt2").mkdir()
    assert "it is a folder" in line("format=torch", f"out={tmp_path}/x.pt2")
    (tmp_path / "y.pt2").write_text("before")
    monkeypatch.setattr(exports, "TOLERANCE", -1.0)
    assert "computes other logits than the network" in line("format=torch", f"out={tmp_path}/y.pt2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gan", "x.pt2", "y.pt2"]
    assert (tmp_path / "y.pt2").read_text() == "before"


def test_net_that_no_exporter_supports_gets_one_line(averaged_run, tmp_path, monkeypatch):
    class Odd(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :10] if x.sum().item() > 0 else -x.flatten(1)[:, :10]

    trained = load_classifier(averaged_run)
    trained.net.net = Odd()
    monkeypatch.setattr("src.engine.load.load_classifier", lambda folder, which: trained)
    with pytest.raises(UserError, match="format=torch: the network cannot be exported: ") as error:
        call("export", export, f"run={averaged_run}", "format=torch", f"out={tmp_path}/x")
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_onnx, write_torch])
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vgg", 32),
        ("googlenet", 64),
        ("resnet20", 32),
        ("densenet_bc100", 32),
        ("alexnet", 224),
        ("resnet18", 64),
    ],
)
def test_nets_with_norms_heads_and_pools(config, tmp_path, name, size, write):
    """Gray images for networks of three channels too; the statistics of BatchNorm differ from those
    of a new network."""
    model = build.model(
        config(
            f"model={name}",
            "data=digits",
            f"data.size={size}",
            "model.normalize.mean=0.3",
            "model.normalize.std=0.4",
        )
    )
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 2)
    net, names = DeployedClassifier(model, None).eval(), [str(k) for k in range(10)]
    trained = LoadedClassifier(net, Fit((size, size), 1), names)
    answer = write(trained, tmp_path / "x")
    for n in (1, 3):
        images = torch.rand(n, 1, size, size)
        with torch.no_grad():
            expected = model.eval()(images)
            assert (answer(images) - expected).abs().max() < 1e-4 * expected.abs().max()
