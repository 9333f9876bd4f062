"""What a classifier sees: feature maps, Grad-CAM, the images that a class likes best. Each takes any net of images."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.no_grad()
def feature_maps(net: nn.Module, x: Tensor, max_channels: int = 16) -> dict[str, Tensor]:
    """What each convolution of `net` answers to x (B, C, H, W): name -> its first `max_channels` channels (B, <=
    max_channels, h, w).

    In the order in which they run, 1 x 1 ones left out where there are others; of one that runs twice, the last time.
    """
    maps: dict[str, Tensor] = {}
    convolutions = {
        name: layer for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d)
    }
    wide = {
        name: layer for name, layer in convolutions.items() if max(layer.kernel_size) > 1
    } or convolutions

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: maps.update(
            {name: output[:, :max_channels].clone()}
        )  # a ReLU in place comes behind it

    handles = [layer.register_forward_hook(keep(name)) for name, layer in wide.items()]
    try:
        net(x)
    finally:
        for handle in handles:
            handle.remove()
    return maps


@torch.no_grad()
def find_cam_layer(net: nn.Module, x: Tensor, side: int = 7) -> str | None:
    """The name of the module of `net` to ask for a Grad-CAM: the last to answer x with rectified maps of `side` pixels or more.

    Seven is what ImageNet's nets end with: maps of 2 x 2 say nothing of a place, behind poolings most gradients are none, and
    maps before a ReLU may be negative where they speak for a class. Without such a module: the last convolution, or None.
    """
    rectified: list[str] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if (
                isinstance(output, Tensor)
                and output.ndim == 4
                and max(output.shape[2:]) >= side
                and output.min() >= 0
            ):
                rectified.append(name)

        return hook

    handles = [
        module.register_forward_hook(note(name)) for name, module in net.named_modules() if name
    ]
    try:
        net(x)
    finally:
        for handle in handles:
            handle.remove()
    return (
        rectified[-1] if rectified else next(reversed(feature_maps(net, x, max_channels=1)), None)
    )


def grad_cam(net: nn.Module, layer: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
    """Where in x (B, C, H, W) the evidence for `classes` (B,) lies: (B, H, W) in [0, 1] (Selvaraju 2017, eq. 1 and 2).

    ReLU of the sum of the layer's maps, each weighed by the mean over its places of the class's logit's gradient; each image's
    greatest value is 1, and none where nothing speaks for the class.
    """
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        with torch.enable_grad():
            logits = net(x.detach().clone().requires_grad_())
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(logits.gather(1, classes.unsqueeze(1)).sum(), kept[-1])
    cam = F.relu((gradient.mean((2, 3), keepdim=True) * kept[-1].detach()).sum(1, keepdim=True))
    cam = F.interpolate(cam, x.shape[2:], mode="bilinear", align_corners=False).squeeze(1)
    return cam / cam.amax((1, 2), keepdim=True).clamp_min(1e-12)


def maximize_classes(
    logits_fn: Callable[[Tensor], Tensor],
    classes: Tensor,
    shape: Sequence[int],
    noise: torch.Generator,
    steps: int = 128,
    tv_weight: float = 30.0,
    jitter: int = 2,
) -> Tensor:
    """Images that speak for `classes` (B,) as loudly as can be: activation maximisation (Erhan 2009), (B, C, H, W) in [0, 1].

    Adam climbs the logit from a grey noise, less `tv_weight` times the neighbours' mean absolute difference (Mahendran 2015),
    on images rolled by up to `jitter` pixels each step (Mordvintsev 2015): without the two it finds what looks like noise.

    Args:
        logits_fn: images (B, C, H, W) in [0, 1] -> logits; differentiable in them.
        shape: (C, H, W).
        noise: a CPU generator.
    """
    start = 0.5 + 0.05 * torch.randn(len(classes), *shape, generator=noise)
    images = start.to(classes.device).requires_grad_()
    optimizer = torch.optim.Adam([images], lr=0.05)
    for _ in range(steps):
        y, x = torch.randint(-jitter, jitter + 1, (2,), generator=noise).tolist()
        with torch.enable_grad():
            logit = logits_fn(images.roll((y, x), (2, 3))).gather(1, classes.unsqueeze(1)).sum()
            rough = (
                images.diff(dim=2).abs().mean((1, 2, 3)).sum()
                + images.diff(dim=3).abs().mean((1, 2, 3)).sum()
            )
            (images.grad,) = torch.autograd.grad(tv_weight * rough - logit, images)
        optimizer.step()
        with torch.no_grad():
            images.clamp_(0, 1)
    return images.detach()
