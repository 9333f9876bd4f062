"""A small classifier, trained by the project itself, whose features `fid_own` compares.

It is trained once per data set, cached for all runs, and identified by a digest of its weights. Its
FID compares models on one data set. It cannot be compared with the FID on Inception features.
"""

import hashlib
import logging
import time
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from src.core.errors import first_line, optional
from src.core.files import Damaged, load_checked, shared_folder, write_atomically
from src.core.pixels import to_float
from src.core.randomness import derive_seed, generator
from src.metrics.precision import float32

log = logging.getLogger(__name__)

VERSION = 2  # raise it when the network or its training changes: the cache is then not used
STEPS, BATCH, RATE = 600, 128, 3e-3
EVERY_N_SECONDS = 10  # between progress lines, if the output is not a terminal


class LabeledImages(Protocol):
    """Images (N, C, H, W) uint8 with their classes (N,)."""

    images: Tensor
    labels: Tensor


class FeatureNet(nn.Module):
    """A network with features (B, 64) by `features` and class logits (B, K) by `forward`.

    Args:
        channels: channels of the images.
        num_classes: K.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()

        def block(n_in: int, n_out: int, stride: int) -> list[nn.Module]:
            return [
                nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False),
                nn.BatchNorm2d(n_out),
                nn.ReLU(),
            ]

        self.body = nn.Sequential(
            *block(channels, 16, 1), *block(16, 32, 2), *block(32, 64, 2), *block(64, 64, 1),
            *block(64, 128, 2),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(64, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Return the activations (B, 64) before the last layer."""
        return self.body(images * 2 - 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    @torch.no_grad()
    def describe(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, 64) and class probabilities (N, K), on the CPU in float32.

        Args:
            images: (N, C, H, W) uint8.
        """
        device = self.head.weight.device
        features = torch.cat(
            [self.features(to_float(part.to(device))) for part in images.split(500)]
        )
        return features.cpu(), self.head(features).softmax(1).cpu()

    def digest(self) -> str:
        """Return twelve hex digits that identify the weights."""
        state = hashlib.sha256()
        for name, value in self.state_dict().items():
            state.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return state.hexdigest()[:12]


@torch.inference_mode(False)  # Lightning evaluates in inference mode, which allows no training
@torch.enable_grad()
def feature_net(train: LabeledImages, num_classes: int, name: str, cache: Path) -> FeatureNet:
    """Return the feature network of a data set, on the CPU, from the cache or newly trained.

    It is a function of the images alone: trained on the CPU, by one thread, in float32. Another
    kind of processor may round differently, which the digest shows. Several runs may train it at
    once. If it cannot be cached, that is logged.

    Args:
        train: all training images of the data set, also those that a run does not use.
        num_classes: number of labels.
        name: name of the data set, for the file name.
        cache: folder shared by all runs.
    """
    digest = hashlib.blake2b(
        repr((VERSION, STEPS, BATCH, RATE, num_classes)).encode(), digest_size=8
    )
    digest.update(repr(tuple(train.images.shape)).encode())
    for part in (train.images, train.labels):
        digest.update(part.cpu().contiguous().numpy().data)
    folder = shared_folder(cache)
    path = folder / "features" / f"{name}-{digest.hexdigest()}.pt" if folder else None
    with torch.random.fork_rng(devices=[]):  # keeps the random state of the run
        torch.default_generator.manual_seed(derive_seed("features"))
        net = FeatureNet(train.images.shape[1], num_classes).to(memory_format=torch.channels_last)
    try:
        if path is not None:
            net.load_state_dict(load_checked(path))
            return net.eval()
    except FileNotFoundError:
        pass
    except (Damaged, RuntimeError, AttributeError, TypeError) as error:  # any content
        log.info("%s is damaged (%s): training it again", path, first_line(error))
    _train(net, train, name)
    if path is not None:
        with optional("the feature network is not cached", path.parent):
            write_atomically(path, lambda temporary: torch.save(net.state_dict(), temporary))
            log.info("feature network: cached for all runs in %s", path)
    return net.eval()


def _train(net: FeatureNet, train: LabeledImages, name: str) -> None:
    """Train `net` with one thread, in float32, and restore the number of threads."""
    start, threads = time.monotonic(), torch.get_num_threads()
    n = len(train.images)
    log.info(
        "feature network: training %d steps on all %d images of %s, once for all runs "
        "(~callbacks.quality leaves it out)",
        STEPS,
        n,
        name,
    )
    torch.set_num_threads(1)
    try:
        with float32(torch.device("cpu")):
            _fit(net, train)
    finally:
        torch.set_num_threads(threads)
    log.info("feature network: %d steps in %.0f seconds", STEPS, time.monotonic() - start)


def _fit(net: FeatureNet, train: LabeledImages) -> None:
    """Train with AdamW, one cycle, and label smoothing; reaches about 99% on MNIST."""
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    draw = generator("features", "batches")
    start = last_line = time.monotonic()
    net.train()
    with tqdm(total=STEPS, desc="feature network", unit="step", disable=None, leave=False) as bar:
        for step in range(1, STEPS + 1):
            batch = torch.randint(len(train.images), (BATCH,), generator=draw)
            logits = net(to_float(train.images[batch]))
            loss = F.cross_entropy(logits, train.labels[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update()
            if bar.disable and time.monotonic() > last_line + EVERY_N_SECONDS:
                last_line = time.monotonic()
                left = (last_line - start) / step * (STEPS - step)
                log.info("feature network: step %d of %d, %.0f s left", step, STEPS, left)
