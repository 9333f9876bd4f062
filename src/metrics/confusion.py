"""Counts of right and wrong predictions, batch by batch.

torchmetrics has the same, but its import takes a second or two.
"""

import torch
from torch import Tensor


class ConfusionMatrix:
    """Count images by (true, predicted) class over the batches of an evaluation.

    Args:
        num_classes: K.

    Attributes:
        counts: (K, K) int64, on the device of the batches.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch of logits (B, K) and labels (B,)."""
        k = len(self.counts)
        pairs = torch.bincount(labels * k + logits.argmax(1), minlength=k * k)
        self.counts = self.counts.to(pairs.device) + pairs.view(k, k)

    def reset(self) -> None:
        self.counts = torch.zeros_like(self.counts)


class TopK:
    """Count images whose class is among the k largest logits, over the batches of an evaluation.

    Args:
        k: at most the number of classes.

    Attributes:
        counts: (2,) int64, the correct ones and all, on the device of the batches.
    """

    def __init__(self, k: int = 1) -> None:
        self.k = k
        self.counts = torch.zeros(2, dtype=torch.int64)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch of logits (B, K) and labels (B,)."""
        first = logits.topk(self.k).indices if self.k > 1 else logits.argmax(1, keepdim=True)
        correct = (first == labels[:, None]).sum()
        self.counts = self.counts.to(correct.device) + torch.stack(
            [correct, torch.full_like(correct, len(labels))]
        )

    def reset(self) -> None:
        self.counts = torch.zeros_like(self.counts)
