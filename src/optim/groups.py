"""Parameter groups: the learning rate and weight decay of each part of a network."""

from typing import Any

from torch import nn

from src.nets.inspect import classifier_heads

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)


def parameter_groups(
    net: nn.Module, backbone_lr: float | None, norm_bias_lr: float, decay_all: bool
) -> list[dict[str, Any]]:
    """Return the optimizer's groups for `net`; `factor` multiplies the learning rate of each.

    The heads' groups come first, since their learning rate is logged. Frozen parameters have
    separate groups from the start: a resumed run must find the same groups, and SGD's fused step
    fails if only a part of a group has momentum.

    Args:
        backbone_lr: factor for all layers but the heads. None: the heads are like the others.
        norm_bias_lr: factor for the biases of norms.
        decay_all: apply weight decay to norms and biases too.
    """
    head_parameters = {
        p for name in classifier_heads(net) for p in net.get_submodule(name).parameters()
    }
    norm_biases = {layer.bias for layer in net.modules() if isinstance(layer, NORMS)}
    groups: dict[tuple[bool, bool, bool, bool], dict[str, Any]] = {}
    for parameter in net.parameters():
        is_backbone = backbone_lr is not None and parameter not in head_parameters
        no_decay = parameter.ndim < 2 and not decay_all
        is_norm_bias = norm_bias_lr != 1 and parameter in norm_biases
        kind = (is_backbone, not parameter.requires_grad, no_decay, is_norm_bias)
        factor = backbone_lr if is_backbone and backbone_lr is not None else 1.0
        factor *= norm_bias_lr if is_norm_bias else 1.0
        group = groups.setdefault(kind, {"params": [], "factor": factor})
        group["params"].append(parameter)
        if no_decay:
            group["weight_decay"] = 0.0
    return [groups[kind] for kind in sorted(groups)]
