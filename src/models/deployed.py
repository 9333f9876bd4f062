"""A trained classifier packaged for inference."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from src.data.transforms.pixels import permute_pixels
from src.models.normalize import normalized
from src.models.tta import predict_with_tta

if TYPE_CHECKING:
    from src.models.classifier import Classifier


class DeployedClassifier(nn.Module):
    """Preprocessing, the network and test-time augmentation in one module.

    The network is the moving average if there is one.

    Args:
        model: its weights are shared, not copied.
        permutation: (H * W,) if the run permuted its images (`ImageData.permute`), else None.
    """

    def __init__(self, model: "Classifier", permutation: Tensor | None) -> None:
        super().__init__()
        self.net, self.tta = model.measured_net, model.tta
        self.in_channels = model.in_channels
        self.mean: Tensor
        self.std: Tensor
        self.permutation: Tensor | None
        self.register_buffer("mean", model.mean)
        self.register_buffer("std", model.std)
        self.register_buffer("permutation", permutation)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes) of images (B, C, H, W) in [0, 1], pixels not permuted."""
        if self.permutation is not None:
            images = permute_pixels(images, self.permutation)
        x = normalized(images, self.mean, self.std, self.in_channels)
        return predict_with_tta(self.net, x, self.tta)[1]
