"""Nets of the classifiers: parameter counts of the papers, and input sizes."""

import numpy as np
import pytest
import torch
from torch import nn

from src.core.errors import UserError
from src.engine import build
from src.engine.checks import why_input_size_fails
from src.engine.instantiate import instantiate_node
from src.nets.cifar import Block, densenet_bc, resnet
from src.nets.convnet import convnet

COUNTS = {  # parameters, from the papers and from torchvision's documentation (1,000 classes)
    ("fc", "data=mnist"): 6_442,
    ("cnn", "data=mnist"): 6_422,
    ("lenet", "data=cifar10"): 62_006,
    ("vgg", "data=cifar10"): 9_231_114,
    ("resnet20", "data=cifar10"): 269_722,
    ("densenet_bc100", "data=cifar10"): 769_162,
    ("petnet", "data=folder", "data.root=.", "data.size=224", "data.num_classes=2"): 102_827_554,
    ("alexnet", "data=folder", "data.root=.", "data.size=224", "data.num_classes=1000"): 61_100_840,
    (
        "resnet18",
        "data=folder",
        "data.root=.",
        "data.size=224",
        "data.num_classes=1000",
    ): 11_689_512,
    (
        "resnet50",
        "data=folder",
        "data.root=.",
        "data.size=224",
        "data.num_classes=1000",
    ): 25_557_032,
    (
        "densenet121",
        "data=folder",
        "data.root=.",
        "data.size=224",
        "data.num_classes=1000",
    ): 7_978_856,
    ("vgg16", "data=folder", "data.root=.", "data.size=224", "data.num_classes=1000"): 138_357_544,
    ("vgg19", "data=folder", "data.root=.", "data.size=224", "data.num_classes=1000"): 143_667_240,
}


@pytest.mark.parametrize("given", COUNTS, ids=lambda given: given[0])
def test_parameter_counts(config, given):
    name, *rest = given
    cfg = config(f"model={name}", *rest)
    with torch.device("meta"):
        net = instantiate_node(cfg.model.net, "net")
    assert sum(p.numel() for p in net.parameters()) == COUNTS[given]


def test_residual_block_equals_numpy():
    """He 2015, option A, in NumPy: x[::2, ::2], and zeros for the new channels."""
    torch.manual_seed(0)
    block = Block(4, 8, stride=2).eval()
    nn.init.zeros_(block.norm2.weight)  # only the shortcut is left
    x = torch.randn(2, 4, 6, 6)
    expected = np.zeros((2, 8, 3, 3), np.float32)
    expected[:, 2:6] = np.maximum(x.numpy()[:, :, ::2, ::2], 0)
    assert np.allclose(block(x).detach(), expected)


@pytest.mark.parametrize(("make", "depth"), [(resnet, 21), (densenet_bc, 99)])
def test_depth_that_does_not_fit_the_architecture_is_refused(make, depth):
    with pytest.raises(ValueError, match=f"depth={depth}"):
        make(3, 10, depth=depth)


def test_no_relu_on_the_logits():
    net = convnet(1, 28, 10, ["M", 6], [50])
    assert isinstance(net[-1], nn.Linear)
    assert (net(torch.randn(64, 1, 28, 28)) < 0).any()


@pytest.mark.parametrize(
    ("name", "size", "smallest"),
    [("cnn", 13, 16), ("lenet", 8, 16), ("alexnet", 32, 63), ("vgg", 31, 32)],
)
def test_error_for_small_images_names_the_smallest_size_that_works(config, name, size, smallest):
    cfg = config(f"model={name}", "data=digits", f"data.size={size}")
    advice = rf"the smallest that works is data\.size={smallest} "
    with pytest.raises(UserError, match=rf"data\.size={size} does not fit .*{advice}"):
        build.model(cfg)
    net = build.model_settings(cfg, {})["net"]
    assert why_input_size_fails(cfg, net, smallest) is None
    assert "too small" in why_input_size_fails(cfg, net, smallest - 1)


def test_errors_unrelated_to_image_size_do_not_blame_it(config):
    with pytest.raises(UserError, match=r"^model\.net: depth=21: a CIFAR ResNet has"):
        build.model(config("model=resnet20", "data=digits", "model.net.depth=21"))
    with pytest.raises(UserError, match="norm=batch has no effect without convolutions"):
        build.model(config("model=fc", "data=digits", "model.net.norm=batch"))
    with pytest.raises(
        UserError,
        match=r"^data\.batch_size=1 does not fit .*Expected more than 1 value per channel",
    ):
        build.model(config("model=resnet18", "data=digits", "data.size=32", "data.batch_size=1"))
    build.model(config("model=resnet18", "data=digits", "data.size=64", "data.batch_size=1"))


def test_one_dropout_rate_is_used_in_both_places():
    net = convnet(1, 28, 10, [6, "M", "D"], [50], dropout=0.3)
    assert [layer.p for layer in net if isinstance(layer, nn.Dropout)] == [0.3, 0.3]
