"""A small classifier that the project trains itself on a data set: the features behind `fid_own`. Trained once, cached, hashed.

Its FID compares models of one data set with one another. It is not the FID of Inception features, and does not compare with it.
"""

import hashlib
import logging
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.data.base import ImageSet, to_float
from src.data.cache import shared_folder
from src.errors import optional
from src.files import write_atomically
from src.randomness import generator, seed_of
from src.run import load_checkpoint

log = logging.getLogger(__name__)

VERSION = 1  # of net and recipe: a new number, a new cache entry
STEPS, BATCH, RATE = 600, 128, 3e-3


class FeatureNet(nn.Module):
    """Images (B, C, H, W) in [0, 1] -> features (B, 64) by `features`, class logits (B, K) by `forward`."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()

        def block(n_in: int, n_out: int, stride: int) -> list[nn.Module]:
            return [
                nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False),
                nn.BatchNorm2d(n_out),
                nn.ReLU(),
            ]

        self.body = nn.Sequential(
            *block(channels, 16, 1), *block(16, 32, 2), *block(32, 64, 2), *block(64, 64, 1), *block(64, 128, 2),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(64, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """The 64 activations before the last layer."""
        return self.body(images * 2 - 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    @torch.no_grad()
    def describe(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images (N, C, H, W) -> features (N, 64) and class probabilities (N, K), on the CPU, in float32."""
        device = self.head.weight.device
        features = torch.cat(
            [self.features(to_float(part.to(device))) for part in images.split(500)]
        )
        return features.cpu(), self.head(features).softmax(1).cpu()

    def digest(self) -> str:
        """Twelve hex digits that name these very weights."""
        state = hashlib.sha256()
        for name, value in self.state_dict().items():
            state.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return state.hexdigest()[:12]


@torch.inference_mode(False)  # Lightning evaluates in inference mode, in which no net is trained
@torch.enable_grad()
def feature_net(
    train: ImageSet, num_classes: int, name: str, cache: Path, device: torch.device
) -> FeatureNet:
    """The feature net of a data set, from the cache or trained now and put there (safe when two runs do it at once).

    Args:
        train: the images that it learns from, the run's own training set.
        num_classes: how many labels there are.
        name: of the data set, for the file's name.
        cache: the folder of what many runs share.
        device: where it is trained and stays.
    """
    pixels = hashlib.sha256(
        train.images.cpu().numpy().tobytes() + train.labels.cpu().numpy().tobytes()
    )
    pixels.update(repr((VERSION, STEPS, BATCH, RATE, tuple(train.images.shape))).encode())
    folder = shared_folder(cache)
    path = folder / "features" / f"{name}-{pixels.hexdigest()[:16]}.pt" if folder else None
    with torch.random.fork_rng(
        devices=[]
    ):  # the run's own generator is none of this net's business
        torch.manual_seed(seed_of("features"))
        net = (
            FeatureNet(train.images.shape[1], num_classes)
            .to(device)
            .to(memory_format=torch.channels_last)
        )
    if path and os.access(path, os.R_OK):
        net.load_state_dict(load_checkpoint(path))
        return net.eval()
    kept = f"once: it is kept in {path}" if path else "without a cache it is not kept"
    log.info("training the feature net of %s (%s)", name, kept)
    _fit(net, train.to(device), device)
    if path:
        with optional("the feature net cannot be kept", path.parent):
            write_atomically(path, lambda temporary: torch.save(net.state_dict(), temporary))
    return net.eval()


def _fit(net: FeatureNet, train: ImageSet, device: torch.device) -> None:
    """AdamW, one cycle, label smoothing: about 99% on MNIST."""
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    draw = generator("features", "batches")
    net.train()
    for _ in range(STEPS):
        images, labels = train[torch.randint(len(train), (BATCH,), generator=draw)]
        loss = F.cross_entropy(net(to_float(images)), labels, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
