"""Infer from a metric's name whether lower or higher values are better (docs/metrics.md)."""

from fnmatch import fnmatch
from typing import Literal

Direction = Literal["min", "max"]

LOWER = ("*loss", "*_nats", "fid_*", "kid_*", "cycle_[ab]", "*_seconds", "seconds")
# the two losses of a GAN do not say how good its samples are, nor the KL divergence how good a VAE
NEITHER = ("d_loss", "g_loss", "kl_nats")
HIGHER = ("acc", "acc_single_view", "*_acc", "top5", "precision", "recall", "density", "coverage",
          "least_class", "confidence", "is_inception", "psnr_[ab]", "ssim_[ab]")  # fmt: skip


def direction(metric: str) -> Direction | None:
    """Return `min` if lower is better, `max` if higher is; None for other metrics.

    Args:
        metric: its name, such as `val/acc`.
    """
    stage, _, name = metric.rpartition("/")
    if name.endswith("_floor") or name in NEITHER:
        return None
    if stage.endswith("_classes") or any(fnmatch(name, pattern) for pattern in HIGHER):
        return "max"
    return "min" if any(fnmatch(name, pattern) for pattern in LOWER) else None


def mode_of(monitor: str | None, mode: Direction | None) -> Direction:
    """Return whether `min` or `max` of a monitored metric is better.

    Args:
        monitor: its name; None: the one that the model names, which falls as it gets better.
        mode: the setting; None: by the name.
    """
    return mode or direction(monitor or "") or "min"
