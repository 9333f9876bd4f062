"""Weight initialisation by name, as a setting of every net."""

from collections.abc import Callable

from torch import Tensor, nn

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def initialise(net: nn.Module, how: str) -> None:
    """Draw the weights of all linear and convolution layers anew; biases become zero.

    Args:
        net: changed in place; norm layers keep their ones and zeros.
        how: `default` (leave PyTorch's), `kaiming` (normal, fan in), `xavier` (uniform) or `normal` (0, 0.02; Radford 2015).
    """
    if how == "default":
        return
    draws: dict[str, Callable[..., Tensor]] = {
        "kaiming": nn.init.kaiming_normal_,
        "xavier": nn.init.xavier_uniform_,
        "normal": lambda weight: nn.init.normal_(weight, 0.0, 0.02),
    }
    for layer in net.modules():
        if isinstance(layer, LAYERS):
            draws[how](layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def spectral_norm(net: nn.Module) -> nn.Module:
    """Divide every linear and convolution weight by its largest singular value (Miyato 2018); changes `net` in place."""
    for layer in list(net.modules()):
        if isinstance(layer, LAYERS):
            nn.utils.parametrizations.spectral_norm(layer)
    return net
