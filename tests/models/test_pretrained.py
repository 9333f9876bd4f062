"""torchvision's pretrained weights: equal logits, download, no execution of pickled code."""

import builtins
import hashlib
import pickle
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

from src.core.errors import UserError
from src.engine import build
from src.models.pretrained import checkpoint_source
from src.models.published import torchvision_source
from src.nets.inspect import classifier_heads


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty folder of torch.hub, and a function that stores a network's weights as torchvision
    would."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))

    def put(name: str, state: dict) -> Path:
        url = torchvision.models.get_model_weights(name).DEFAULT.url
        path = tmp_path / "hub" / "hub" / "checkpoints" / url.rpartition("/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, path)
        return path

    return put


@pytest.mark.parametrize("name", ["googlenet", pytest.param("densenet121", marks=pytest.mark.slow)])
def test_net_with_torchvision_weights_equals_torchvision(config, hub, log_lines, name):
    """Against torchvision's own loading and scaling, also for gray images; DenseNets are saved
    under older names."""
    torch.manual_seed(0)
    make = getattr(torchvision.models, name)
    net = make(**({"aux_logits": True, "init_weights": False} if name == "googlenet" else {}))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
    state = {
        key: value
        for key, value in net.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    older = {re_dotted(key): value for key, value in state.items()}
    assert (older.keys() != state.keys()) == (name == "densenet121")
    hub(name, older)
    theirs = make(weights="DEFAULT").eval()
    weights = torchvision.models.get_model_weights(name).DEFAULT
    preset = weights.transforms()
    x = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = theirs(
            torchvision.transforms.functional.normalize(
                x.expand(-1, 3, -1, -1), preset.mean, preset.std
            )
        )
    cfg = config(
        f"model={name}",
        "data=digits",
        "data.size=64",
        "data.num_classes=1000",
        "model.init_from=pretrained",
    )
    model = build.model(cfg)
    classes = weights.meta["categories"]
    model.load_pretrained(SimpleNamespace(class_names=classes, permutation=None))
    assert "last layer included" in log_lines[-1]
    with torch.no_grad():
        assert torch.allclose(model.eval()(x), expected, atol=1e-4 * expected.abs().max().item())
    classes = [str(k) for k in range(1000)]
    model.load_pretrained(SimpleNamespace(class_names=classes, permutation=None))
    heads = ", ".join(classifier_heads(model.net))
    assert f"newly initialized for 1000 classes: {heads}" in log_lines[-1]


def re_dotted(key):
    """Return torchvision's old name of a part of a dense layer: norm.1 for norm1."""
    layer, dot, rest = key.partition("denselayer")
    for part in ("norm", "conv"):
        rest = rest.replace(f".{part}1.", f".{part}.1.").replace(f".{part}2.", f".{part}.2.")
    return layer + dot + rest


@pytest.fixture
def squeeze(monkeypatch, tmp_path):
    """Return a function that serves the weights of a SqueezeNet from a URL, named by digest."""
    weights = torchvision.models.SqueezeNet1_1_Weights.DEFAULT
    state = torchvision.models.squeezenet1_1().state_dict()
    torch.save(state, tmp_path / "saved.pth")

    def serve(digest: str | None = None) -> dict:
        data = (tmp_path / "saved.pth").read_bytes()
        path = tmp_path / f"squeezenet1_1-{digest or hashlib.sha256(data).hexdigest()[:8]}.pth"
        path.write_bytes(data)
        monkeypatch.setattr(weights.value, "url", path.as_uri())
        return state

    return serve


def test_torchvisions_weights_are_downloaded_and_their_hash_is_checked(hub, squeeze, capfd):
    net = torchvision.models.squeezenet1_1()
    state = squeeze()
    source = torchvision_source(net, "squeezenet1_1")
    assert all(torch.equal(source.weights[key], state[key]) for key in state)
    assert capfd.readouterr() == ("", "")
    squeeze("00000000")
    refused = r"squeezenet1_1-00000000\.pth, from file:.* cannot be downloaded \(invalid hash value"
    with pytest.raises(UserError, match=refused):
        torchvision_source(net, "squeezenet1_1")


def test_failed_download_is_one_line(hub, monkeypatch):
    def offline(*args, **kwargs):
        raise URLError("Name or service\nnot known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(
        UserError, match=r"alexnet-.*\.pth does not exist and|from https.*alexnet"
    ) as error:
        torchvision_source(nn.Sequential(), "alexnet")
    assert "\n" not in str(error.value)
    assert "Name or service not known" in str(error.value)


class Bomb:
    def __reduce__(self):
        return (exec, ("import builtins; builtins.exploded = True",))


def test_pickled_code_is_not_executed(hub, tmp_path):
    path = hub("alexnet", {})
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match="is damaged: delete it"):
        torchvision_source(nn.Sequential(), "alexnet")
    torch.save(Bomb(), tmp_path / "bomb.ckpt")
    with pytest.raises(UserError, match="is a damaged checkpoint"):
        checkpoint_source(tmp_path / "bomb.ckpt")
    assert not hasattr(builtins, "exploded")
