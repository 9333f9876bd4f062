"""The network for fast training on CIFAR-10 of Jordan 2024 ("94% on CIFAR-10 in 3.29 seconds")."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from src.core.types import Counted, Positive, PositiveInt
from src.nets.init import initialize
from src.nets.winograd import Conv2d


class Norm(nn.BatchNorm2d):
    """BatchNorm whose weight stays 1: the next convolution can scale as well.

    Args:
        channels: of the feature maps.
        momentum: of the running averages. 0.4 is large because training takes few batches.
    """

    def __init__(self, channels: int, momentum: float = 0.4) -> None:
        super().__init__(channels, eps=1e-12, momentum=momentum)
        self.weight.requires_grad_(False)


class Group(nn.Module):
    """Convolutions of 3 x 3, each with BatchNorm and GELU; the first one halves the image.

    The output of the first one is added to that of the third, before its GELU.

    Args:
        n_in, n_out: channels before and after.
        depth: number of convolutions.
    """

    def __init__(self, n_in: int, n_out: int, depth: int) -> None:
        super().__init__()
        sizes = [n_in, *[n_out] * depth]
        self.convs = nn.ModuleList(
            Conv2d(a, b, 3, padding=1, bias=False, multiple=1 if i else 2)  # 2: for the pooling
            for i, (a, b) in enumerate(pairwise(sizes))
        )
        self.norms = nn.ModuleList(Norm(n_out) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        first = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if i == 0:
                x = first = F.gelu(norm(F.max_pool2d(conv(x), 2)))
            else:
                y = norm(conv(x))
                x = F.gelu(y + first if i == 2 else y)
        return x  # (B, n_out, H / 2, W / 2)


class Airbench(nn.Module):
    """A convolution of 2 x 2 with fixed, whitening filters; three groups; one linear layer.

    The filters start at random. `model.normalize.whiten=true` sets them to the principal components
    of the training images; then they stay as they are, and only their biases are trained.

    Args:
        channels: channels of the images.
        num_classes: number of classes.
        widths: channels of each group.
        depth: convolutions of each group.
        scale: factor on the logits.
    """

    def __init__(
        self,
        channels: PositiveInt,
        num_classes: Counted,
        widths: Sequence[PositiveInt] = (64, 256, 256),
        depth: PositiveInt = 2,
        scale: Positive = 1 / 9,
    ) -> None:
        super().__init__()
        self.scale = scale
        n = 8 * channels  # a component of a patch of 2 x 2 and its negative are two filters
        self.whiten = nn.Conv2d(channels, n, 2)
        self.whiten.weight.requires_grad_(False)
        sizes = [n, *widths]
        self.groups = nn.Sequential(*[Group(a, b, depth) for a, b in pairwise(sizes)])
        initialize(self.groups, "dirac")
        self.head = nn.Linear(widths[-1], num_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, C, H, W); 32 x 32 in the paper."""
        x = F.gelu(self.whiten(x))  # (B, 8 C, 31, 31)
        x = self.groups(x)  # (B, widths[-1], 3, 3)
        x = F.adaptive_max_pool2d(x, 1).flatten(1)
        return self.head(x) * self.scale
