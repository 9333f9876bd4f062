"""Time augmentation: ours and kornia's of a batch, torchvision's of single images.

python -m src.bench.augment size=32 batch_size=128
python -m src.bench.augment size=224 batch_size=32 batches=5

Each turns uint8 images (B, 3, H, W) into float32 in [0, 1], flipped, rotated, scaled and shifted as
configured by augment=standard. kornia is timed if it is installed (pip install '.[bench]').
torchvision only has the border `constant`.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig

from src.config import cli
from src.core.errors import UserError

TRANSFORMS = {"flip", "rotation", "scale", "translation"}  # those that all libraries have here


def bench_augment(cfg: DictConfig) -> dict[str, list[float]]:
    """Time all libraries for cfg.rounds rounds; print images per second, return our ratios."""
    import torch

    transforms = {name for name, node in cfg.augment.items() if isinstance(node, DictConfig)}
    if transforms != TRANSFORMS:
        names = ", ".join(sorted(TRANSFORMS))
        raise UserError(f"augment: the benchmark needs exactly {names}; use augment=standard")
    images = torch.randint(0, 256, (cfg.batch_size, 3, cfg.size, cfg.size), dtype=torch.uint8)
    ways = {"ours": ours(cfg), "torchvision": torchvision_single(cfg), "kornia": kornia_batch(cfg)}
    print(
        f"batches of {cfg.batch_size} x 3 x {cfg.size} x {cfg.size}, "
        f"{torch.get_num_threads()} threads, {cfg.batches} batches per round"
    )
    ratios: dict[str, list[float]] = {
        name: [] for name, way in ways.items() if way and name != "ours"
    }
    for number in range(1, cfg.rounds + 1):
        rates = {name: _rate(way, images, cfg.batches) for name, way in ways.items() if way}
        for name in ratios:
            ratios[name].append(rates["ours"] / rates[name])
        print(
            f"round {number}: "
            + "   ".join(f"{name} {rate:,.0f} images/s" for name, rate in rates.items()),
            flush=True,
        )
    for name, values in ratios.items():
        print(
            f"ours / {name}: median {statistics.median(values):.2f}, "
            f"from {min(values):.2f} to {max(values):.2f}"
        )
    if "kornia" not in ratios:
        print("kornia is not installed and was not timed; to time it: pip install '.[bench]'")
    return ratios


def _rate(way: Callable[[Any, int], Any], images: Any, batches: int) -> float:
    """Return images per second of `way`, after one batch to warm up."""
    way(images, 0)
    start = time.perf_counter()
    for i in range(batches):
        way(images, i)
    return batches * len(images) / (time.perf_counter() - start)


def ours(cfg: DictConfig) -> Callable[[Any, int], Any]:
    """Return our augmentation, as `ImageData` calls it."""
    import torch

    from src.core.pixels import to_float
    from src.core.randomness import CounterRNG
    from src.engine import build

    augmentation = build.augmentation(cfg)
    assert augmentation is not None
    numbers, labels = torch.arange(cfg.batch_size), torch.zeros(cfg.batch_size, dtype=torch.int64)
    return lambda images, i: augmentation(
        to_float(images), labels, CounterRNG(numbers, cfg.seed, "augment", epoch=i), None
    )[0]


def _largest_shift(cfg: DictConfig) -> float:
    """Return augment.translation.max_shift, which may be in pixels, as a fraction of the sides."""
    shift = cfg.augment.translation.max_shift
    return float(shift if shift < 1 else shift / cfg.size)


def torchvision_single(cfg: DictConfig) -> Callable[[Any, int], Any]:
    """Return torchvision v2, one image at a time, as the data set of a DataLoader calls it."""
    import torch
    from torchvision.transforms import InterpolationMode, v2

    move = _largest_shift(cfg)
    transform = v2.Compose(
        [
            v2.RandomHorizontalFlip(cfg.augment.flip.p),
            v2.RandomAffine(
                cfg.augment.rotation.degrees,
                (move, move),
                (cfg.augment.scale.min_scale, cfg.augment.scale.max_scale),
                interpolation=InterpolationMode.BILINEAR,
            ),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    return lambda images, _: torch.stack([transform(image) for image in images])


def kornia_batch(cfg: DictConfig) -> Callable[[Any, int], Any] | None:
    """Return kornia, which transforms a whole batch; None if it is not installed."""
    try:
        from kornia import augmentation as K
    except ImportError:
        return None
    from src.core.pixels import to_float

    move = _largest_shift(cfg)
    padding = {"constant": "zeros", "edge": "border", "reflect": "reflection"}.get(
        cfg.augment.border, "zeros"
    )
    transform = K.AugmentationSequential(
        K.RandomHorizontalFlip(cfg.augment.flip.p),
        K.RandomAffine(
            cfg.augment.rotation.degrees,
            (move, move),
            (cfg.augment.scale.min_scale, cfg.augment.scale.max_scale),
            padding_mode=padding,
            p=1.0,
        ),
    )
    return lambda images, _: transform(to_float(images))


if __name__ == "__main__":
    sys.exit(cli.command("bench_augment", bench_augment, __doc__ or ""))
