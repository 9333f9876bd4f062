"""Explain a classifier: feature maps, Grad-CAM and activation maximization."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAXIMIZE_STEPS = 128  # of `maximize_classes`


@torch.no_grad()
def feature_maps(net: nn.Module, x: Tensor, max_channels: int = 16) -> dict[str, Tensor]:
    """Return the output of each convolution of `net`, in the order in which they run.

    1 x 1 convolutions are left out if there are others. If one runs twice, the last output counts.

    Args:
        net: the network.
        x: images (B, C, H, W).
        max_channels: number of channels to keep.

    Returns:
        (B, <= max_channels, h, w) by layer name.
    """
    maps: dict[str, Tensor] = {}
    convolutions = {
        name: layer for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d)
    }
    wide = {
        name: layer for name, layer in convolutions.items() if max(layer.kernel_size) > 1
    } or convolutions

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            if len(output) == len(x):  # not windows or heads as a batch
                maps[name] = output[:, :max_channels].clone()  # an in-place ReLU may follow

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in wide.items()]
    try:
        net(x)
    finally:
        for handle in handles:
            handle.remove()
    return maps


@torch.no_grad()
def find_cam_layer(net: nn.Module, x: Tensor, side: int = 7) -> str | None:
    """Return the name of the module whose maps are best for Grad-CAM.

    This is the last module with non-negative maps of `side` pixels or more; without one, the last
    convolution; without that, None. Smaller maps are too coarse to localize anything, and after
    pooling most gradients are zero. Before a ReLU, values that count as evidence for a class may be
    negative.

    Args:
        net: the network.
        x: images (B, C, H, W).
        side: smallest map; 7 is the size of the last maps in networks for ImageNet.
    """
    rectified: list[str] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if (
                isinstance(output, Tensor)
                and output.ndim == 4
                and len(output) == len(x)  # not windows or heads as a batch
                and not isinstance(module, nn.Dropout | nn.Softmax)  # not attention weights
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
    """Return where the evidence for a class is in each image (Selvaraju 2017, eq. 1 and 2).

    The maps of the layer are weighted by the mean gradient of the class logit, summed, and
    rectified.

    Args:
        net: the network.
        layer: a module of it, see `find_cam_layer`.
        x: images (B, C, H, W).
        classes: (B,).

    Returns:
        (B, H, W) in [0, 1]. The maximum of each image is 1, or 0 if there is no evidence.
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
    steps: int = MAXIMIZE_STEPS,
    tv_weight: float = 30.0,
    jitter: int = 2,
) -> Tensor:
    """Optimize images that maximize the logit of a class (activation maximization, Erhan 2009).

    Adam maximizes the logit, minus `tv_weight` times the mean absolute difference of neighbors
    (Mahendran 2015), on images shifted by up to `jitter` pixels at each step (Mordvintsev 2015).
    Without these two the result looks like noise.

    Args:
        logits_fn: images (B, C, H, W) in [0, 1] -> logits; differentiable.
        classes: (B,).
        shape: (C, H, W).
        noise: a CPU generator; the images start from gray with noise.
        steps: number of steps.
        tv_weight: weight of the differences.
        jitter: largest shift, in pixels.

    Returns:
        (B, C, H, W) in [0, 1].
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
