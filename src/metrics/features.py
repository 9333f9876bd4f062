"""A small classifier that the project trains itself on a data set: the features behind `fid_own`.

It is trained once, kept for all runs, and named by a digest of its weights.

Its FID compares models of one data set with one another. It is not the FID of Inception features, and does not compare with it.
"""

import hashlib
import logging
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from src.core.errors import first_line, optional
from src.core.files import Broken, load_checked, write_atomically
from src.core.randomness import derive_seed, generator
from src.data.cache import shared_folder
from src.data.images import ImageSet
from src.data.transforms.pixels import to_float
from src.metrics.precision import float32

log = logging.getLogger(__name__)

VERSION = 2  # of net and recipe: a new number, a new cache entry
STEPS, BATCH, RATE = 600, 128, 3e-3
EVERY_N_SECONDS = 10  # between lines of progress, where the output is no terminal


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
def feature_net(train: ImageSet, num_classes: int, name: str, cache: Path) -> FeatureNet:
    """Return the feature net of a data set, on the CPU: from the cache, or trained now and kept there.

    It is a function of the images alone: trained on the CPU, by one thread, in float32. (Another kind of processor may round
    otherwise: the digest tells.) Several runs may train it at once. Where it cannot be kept, a line says so.

    Args:
        train: all images that the data set has to learn from, whatever part of them a run takes.
        num_classes: how many labels there are.
        name: of the data set, for the file's name.
        cache: the folder of what many runs share.
    """
    digest = hashlib.blake2b(
        repr((VERSION, STEPS, BATCH, RATE, num_classes)).encode(), digest_size=8
    )
    digest.update(repr(tuple(train.images.shape)).encode())
    for part in (train.images, train.labels):
        digest.update(part.cpu().contiguous().numpy().data)
    folder = shared_folder(cache)
    path = folder / "features" / f"{name}-{digest.hexdigest()}.pt" if folder else None
    with torch.random.fork_rng(devices=[]):  # the run's own random numbers stay as they were
        torch.default_generator.manual_seed(derive_seed("features"))
        net = FeatureNet(train.images.shape[1], num_classes).to(memory_format=torch.channels_last)
    try:
        if path is not None:
            net.load_state_dict(load_checked(path))
            return net.eval()
    except FileNotFoundError:
        pass
    except (Broken, RuntimeError, AttributeError, TypeError) as error:  # it may hold anything
        log.info("%s is broken (%s): training it again", path, first_line(error))
    _train(net, train, name)
    if path is not None:
        with optional("the feature net cannot be kept", path.parent):
            write_atomically(path, lambda temporary: torch.save(net.state_dict(), temporary))
            log.info("feature net: kept for all runs in %s", path)
    return net.eval()


def _train(net: FeatureNet, train: ImageSet, name: str) -> None:
    """Train `net` by one thread, in float32; the run keeps its own number of threads."""
    start, threads = time.monotonic(), torch.get_num_threads()
    log.info("feature net: training on all %d images of %s, once for all runs", len(train), name)
    torch.set_num_threads(1)
    try:
        with float32(torch.device("cpu")):
            _fit(net, train)
    finally:
        torch.set_num_threads(threads)
    log.info("feature net: %d steps in %.0f seconds", STEPS, time.monotonic() - start)


def _fit(net: FeatureNet, train: ImageSet) -> None:
    """AdamW, one cycle, label smoothing: about 99% on MNIST."""
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    draw = generator("features", "batches")
    said = time.monotonic()
    net.train()
    with tqdm(total=STEPS, desc="feature net", unit="step", disable=None, leave=False) as bar:
        for step in range(1, STEPS + 1):
            images, labels = train[torch.randint(len(train), (BATCH,), generator=draw)]
            loss = F.cross_entropy(net(to_float(images)), labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update()
            if bar.disable and time.monotonic() > said + EVERY_N_SECONDS:
                said = time.monotonic()
                log.info("feature net: step %d of %d", step, STEPS)
