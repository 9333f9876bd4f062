"""Weights of style transfer's net: torchvision's VGG-19, and errors."""

import pytest
import torch
import torchvision

from src.config.checks import check
from src.config.compose import compose
from src.core.errors import UserError
from src.engine import build
from src.models.pretrained import Source
from src.nets.perceptual import perceptual


def test_vgg19_features_equal_torchvision(monkeypatch, log_lines):
    """Each named layer gives torchvision's maps: relu10 follows conv4_2."""
    reference = torchvision.models.vgg19(weights=None).eval()
    mean, std = (
        torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1),
    )
    source = Source(reference.state_dict(), mean, std, ["a"])
    monkeypatch.setattr(
        "src.models.published.torchvision_source",
        lambda net, name: source if name == "vgg19" else None,
    )
    files = ("data.content=x", "data.style=y", "data.size=32", "model.net.pooling=max")
    cfg = compose("train", ["model=style_transfer", "data=style_pair", *files])
    check(cfg)
    model = build.model(cfg)
    model.load_pretrained(None)
    assert log_lines[-1] == "loaded 13 convolutions from pretrained"
    x = torch.rand(1, 3, 48, 32)
    maps = model.maps(x)
    places = {"relu1": 1, "relu3": 6, "relu5": 11, "relu9": 20, "relu10": 22, "relu13": 29}
    assert maps.keys() == places.keys()
    with torch.no_grad():
        for name, place in places.items():
            expected = reference.features[: place + 1]((x - mean) / std)
            assert torch.allclose(maps[name], expected, atol=1e-5), name


def test_average_pooling_replaces_max_pooling():
    net = perceptual(1, [1, "M"], pooling="average")
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert torch.equal(net.pool1(x), torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]]))
    assert torch.equal(
        perceptual(1, [1, "M"]).pool1(x), torch.tensor([[[[5.0, 7.0], [13.0, 15.0]]]])
    )


@pytest.mark.slow
def test_torchvision_net_of_a_run_is_matched_by_position(config, tmp_path, log_lines):
    """torchvision names the convolutions of a VGG by position: features.0, features.2, ..."""
    cfg = config(
        "model=style_transfer",
        "data=style_pair",
        "data.content=x",
        "data.style=y",
        "data.size=32",
        "model.net.pooling=max",
    )
    model = build.model(cfg)
    reference = torchvision.models.vgg19(weights=None)
    state = {f"net.{name}": value for name, value in reference.state_dict().items()}
    state |= {name: torch.full((3, 1, 1), value) for name, value in (("mean", 0.4), ("std", 0.2))}
    torch.save(
        {"state_dict": state, "Folder": {"class_names": ["a"], "permutation": None}},
        tmp_path / "vgg19.ckpt",
    )
    model.init_from = str(tmp_path / "vgg19.ckpt")
    model.load_pretrained(None)
    assert log_lines[-1].startswith("loaded 13 convolutions")
    x = torch.rand(1, 3, 32, 32)
    expected = reference.features[:23]((x - 0.4) / 0.2)  # after conv4_2
    assert torch.allclose(model.maps(x)["relu10"], expected, atol=1e-5)


def test_failed_download_of_weights_names_alternatives(config, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", _no_network)
    files = ("data.content=x", "data.style=y")
    cfg = config("model=style_transfer", "data=style_pair", "data.size=32", *files)
    with pytest.raises(UserError) as error:
        build.model(cfg).load_pretrained(None)
    for words in (
        "vgg19-dcbb9e9d.pth",
        "cannot be downloaded (no network)",
        "model=style_transfer_own model.init_from=RUN",
    ):
        assert words in str(error.value)


def _no_network(*args, **kwargs):
    raise OSError("no network")
