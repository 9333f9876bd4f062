"""Pictures of the report."""

import base64
import io
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from torch import nn

from src.data.decode import Fit
from src.engine.load import LoadedClassifier
from src.nanonet.report import _heat_maps


def test_heat_maps_are_red_at_the_evidence_of_each_class(tmp_path):
    bright_corner, dark_corner = np.zeros((28, 28), np.uint8), np.full((28, 28), 255, np.uint8)
    bright_corner[:14, :14], dark_corner[:14, 14:] = 255, 0
    for name, pixels in (("bright", bright_corner), ("dark", dark_corner)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    convolution = nn.Conv2d(1, 2, 1)  # evidence for class 0 where it is bright, for 1 where dark
    convolution.weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    convolution.bias.data = torch.tensor([0.0, 1.0])
    net = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    one, none = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)
    deployed = SimpleNamespace(net=net, mean=none, std=one, in_channels=1)
    trained = LoadedClassifier(deployed, Fit((28, 28), 1), ["bright", "dark"])
    photos = [SimpleNamespace(path=tmp_path / f"{name}.png") for name in ("bright", "dark")]
    found = SimpleNamespace(class_names=["bright", "dark"], labels=[0, 1], photos=photos)
    maps = _heat_maps(found, trained)
    assert [(one["first"], one["second"]) for one in maps] == [
        ("bright.png", "bright"),
        ("dark.png", "dark"),
    ]
    for one, quarter in zip(maps, ("left", "right"), strict=True):
        content = base64.b64decode(one["image"].partition(",")[2])
        picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
        redness = (picture[..., 0] - picture[..., 2])[:64]  # the upper half of 128 x 128
        left, right = redness[:, :64].mean(), redness[:, 64:].mean()
        assert abs(left - right) > 50
        assert (left > right) == (quarter == "left")
