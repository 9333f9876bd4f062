"""The card of a generative model: its samples held against real images, with the floor beside it."""

from torch import Tensor

from src.metrics.features import FeatureNet
from src.metrics.fid import frechet_distance, kernel_distance, neighbours

MOST_NEIGHBOURS = (
    3000  # points a set for the quadratic measures (KID, precision, recall, density, coverage)
)


def quality(
    samples: Tensor, real: Tensor, train: Tensor, net: FeatureNet, asked: Tensor | None = None
) -> dict[str, float]:
    """Measure `samples` against `real`, and as a floor `train` (as many training images) against `real`.

    Args:
        samples, real, train: (N, C, H, W) uint8, equally many: distances are biased by N.
        net: what features and classes are read off by.
        asked: the class that each sample was drawn for, (N,), where there is such.

    Returns:
        fid_own, kid_own, precision, recall, density, coverage (see `src.metrics.fid`), each with its ..._floor;
        confidence: mean of the highest class probability of a sample; class_K: share of samples that look like class K;
        least_class: the smallest of those shares; asked_acc: share of samples that look like the class `asked` for.
    """
    real_features, _ = net.describe(real)
    sample_features, probabilities = net.describe(samples)
    train_features, _ = net.describe(train)
    card = _distances(real_features, sample_features)
    card |= {
        f"{name}_floor": value for name, value in _distances(real_features, train_features).items()
    }
    if asked is not None:
        card["asked_acc"] = (probabilities.argmax(1) == asked).float().mean().item()
    shares = probabilities.argmax(1).bincount(minlength=probabilities.shape[1]) / len(samples)
    card |= {f"class_{label}": share for label, share in enumerate(shares.tolist())}
    return card | {
        "confidence": probabilities.max(1).values.mean().item(),
        "least_class": shares.min().item(),
    }


def _distances(real: Tensor, fake: Tensor) -> dict[str, float]:
    few_real, few_fake = real[:MOST_NEIGHBOURS], fake[:MOST_NEIGHBOURS]
    distances = {
        "fid_own": frechet_distance(real, fake),
        "kid_own": kernel_distance(few_real, few_fake),
    }
    return distances | neighbours(few_real, few_fake)
