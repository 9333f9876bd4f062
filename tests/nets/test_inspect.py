"""Layer counts against values by hand, torchvision's published values and torch's counter."""

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from src.nets import dcgan
from src.nets.airbench import Airbench
from src.nets.convnet import convnet
from src.nets.inspect import Layer, classifier_heads, frozen_parts, layer_calls, parts_of
from src.nets.timm_net import timm_net

IMAGE = (3, 224, 224)


def on_meta(make, *args, **kwargs):
    with torch.device("meta"):
        return make(*args, **kwargs).eval()


def test_lenet_layers_by_hand():
    net = on_meta(convnet, 3, 32, 10, features=[6, "M", 16, "M"], hidden_dims=[120, 84], kernel=5)
    rows = layer_calls(net, (3, 32, 32))
    assert [row for row in rows if row.kind != "ReLU"] == [
        Layer("conv1", "Conv2d", (3, 32, 32), (6, 28, 28), 456, 28 * 28 * 6 * 3 * 25),
        Layer("pool1", "MaxPool2d", (6, 28, 28), (6, 14, 14), 0, 0),
        Layer("conv2", "Conv2d", (6, 14, 14), (16, 10, 10), 2_416, 10 * 10 * 16 * 6 * 25),
        Layer("pool2", "MaxPool2d", (16, 10, 10), (16, 5, 5), 0, 0),
        Layer("flatten", "Flatten", (16, 5, 5), (400,), 0, 0),
        Layer("fc1", "Linear", (400,), (120,), 48_120, 400 * 120),
        Layer("fc2", "Linear", (120,), (84,), 10_164, 120 * 84),
        Layer("fc3", "Linear", (84,), (10,), 850, 84 * 10),
    ]
    assert sum(row.parameters for row in rows) == 62_006


def test_alexnet_map_sizes():
    rows = layer_calls(on_meta(torchvision.models.alexnet), IMAGE)
    assert [row.shape_out[1] for row in rows if row.kind in ("Conv2d", "MaxPool2d")] == [
        55,
        27,
        27,
        13,
        13,
        13,
        13,
        6,
    ]


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "googlenet", "resnet50", "densenet121"])
def test_parameters_and_multiply_adds_equal_torchvisions_published_values(name):
    published = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].meta
    kwargs = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    rows = layer_calls(on_meta(torchvision.models.get_model, name, **kwargs), IMAGE)
    assert sum(row.parameters for row in rows) == published["num_params"]
    assert sum(row.multiply_adds for row in rows) / 1e9 == pytest.approx(
        published["_ops"], abs=6e-4
    )


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: dcgan.generator(100, 3, 64), (100,)),  # transposed convolutions
        (lambda: torchvision.models.resnext50_32x4d(), IMAGE),  # convolutions in groups
        (lambda: torchvision.models.swin_v2_t().features[0], IMAGE),  # channels last
        (lambda: nn.Linear(5, 7), (4, 3, 5)),  # at each of 4 x 3 places
    ],
    ids=["transposed", "groups", "channels last", "places"],
)
def test_multiply_adds_equal_torchs_counter(make, shape):
    net = on_meta(make)
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, *shape, device="meta"))
    assert (
        2 * sum(row.multiply_adds for row in layer_calls(net, shape)) == counter.get_total_flops()
    )


def test_auxiliary_heads_run_in_training_only():
    net = on_meta(torchvision.models.googlenet, init_weights=False)
    assert sum(row.parameters for row in layer_calls(net, IMAGE)) == 6_624_904
    assert sum(row.parameters for row in layer_calls(net.train(), IMAGE)) == 13_004_888


def test_shared_layer_counts_its_parameters_once():
    shared = nn.Linear(4, 4)
    rows = layer_calls(nn.Sequential(shared, nn.ReLU(), shared), (4,))
    assert [row.parameters for row in rows] == [20, 0, 0]
    assert [row.multiply_adds for row in rows] == [16, 0, 16]
    assert not shared._forward_hooks, "no hook is left"


def test_frozen_parts_of_a_convnet():
    net = convnet(
        3,
        8,
        2,
        features=[4, "M", "D", 6, "D"],
        hidden_dims=[5],
        padding=1,
        norm="batch",
        dropout=[0.5, 0.5],
    )

    def names(freeze):
        parameters, modules = frozen_parts(net, freeze)
        assert {id(p) for p in parameters} == {
            id(p) for m in modules for p in m.parameters(recurse=False)
        }
        return " ".join(name for name, module in net.named_modules() if module in modules)

    assert names("none") == ""
    assert names(1) == "conv1"
    assert names(2) == "conv1 norm1 relu1 pool1 dropout1"
    assert names(3) == "conv1 norm1 relu1 pool1 dropout1 conv2"
    assert names(5) == names("backbone")
    assert names("backbone").endswith("norm2 relu2 dropout2 flatten fc1 relu3 dropout3")
    with pytest.raises(ValueError, match="freeze=6 leaves nothing to learn: the network has 6"):
        frozen_parts(net, 6)


def test_parts_are_children_and_those_of_sequentials_that_have_parameters():
    inner = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 3)))
    net = nn.ModuleDict({"first": nn.Conv2d(1, 2, 2), "drop": nn.Dropout(), "body": inner})
    net["heads"] = nn.ModuleList([nn.Linear(3, 1), nn.Linear(3, 1)])
    parts = parts_of(net)
    assert list(parts) == ["first", "body.0", "body.2.0", "heads"]
    assert all(part is net.get_submodule(name) for name, part in parts.items())


def test_dropout_in_a_new_head_is_not_frozen_with_the_body():
    net = timm_net("test_efficientnet", 2, 32, dropout=0.5, hidden=4)
    _, modules = frozen_parts(net, "backbone")
    assert net.body in modules
    assert not set(net.head.modules()) & set(modules)


def test_frozen_parts_of_torchvision_nets():
    """Auxiliary heads are trained; a parameter of the net itself (a class token) is frozen, too."""
    with torch.device("meta"):
        google = torchvision.models.googlenet(num_classes=5, aux_logits=True, init_weights=False)
        vit = torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 16, num_classes=5)
        squeeze = torchvision.models.squeezenet1_1(num_classes=5)
    assert classifier_heads(google) == ["fc", "aux1.fc2", "aux2.fc2"]
    assert classifier_heads(squeeze) == ["classifier.1"]
    for net in (google, vit, squeeze):
        at_rest = {id(p) for p in frozen_parts(net, "backbone")[0]}
        learned = {
            name.rpartition(".")[0] for name, p in net.named_parameters() if id(p) not in at_rest
        }
        assert learned == set(classifier_heads(net))
    assert google not in frozen_parts(google, "backbone")[1], (
        "it returns its auxiliary heads only in training"
    )


def test_parameters_that_the_network_fixes_are_not_among_the_frozen_ones():
    """Unfreezing must not train them: airbench fixes its whitening and its BatchNorm scales."""
    net = Airbench(3, 10)
    fixed = {name for name, p in net.named_parameters() if not p.requires_grad}
    assert "whiten.weight" in fixed
    frozen = {id(p) for p in frozen_parts(net, "backbone")[0]}
    names = {name for name, p in net.named_parameters() if id(p) in frozen}
    head = {f"{layer}.weight" for layer in classifier_heads(net)}
    assert names | head == {name for name, p in net.named_parameters() if p.requires_grad}
    assert not names & (fixed | head)
