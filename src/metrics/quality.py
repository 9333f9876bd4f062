"""Quality metrics of a generative model, with the value for training images as a floor."""

from collections.abc import Callable

from torch import Tensor

from src.metrics.features import FeatureNet, LabeledImages
from src.metrics.fid import frechet_distance, kernel_distance, neighbor_metrics

K = 5  # nearest neighbors for precision, recall, density and coverage
Measure = Callable[[Tensor, Tensor], dict[str, float]]
# number of images needed of each set, names, and the function of (real, fake) features
MEASURES: list[tuple[int, str, Measure]] = [
    (2, "fid_own, kid_own", lambda real, fake: {
        "fid_own": frechet_distance(real, fake), "kid_own": kernel_distance(real, fake)
    }),
    (K + 1, "precision, recall, density, coverage",
     lambda real, fake: neighbor_metrics(real, fake, K)),
]  # fmt: skip


def quality(
    samples: Tensor,
    real: LabeledImages,
    train: Tensor,
    net: FeatureNet,
    asked: Tensor | None = None,
) -> dict[str, float]:
    """Compare samples with real images, and training images with the same real images as a floor.

    `net` was trained on the training images. On a small set this makes the floor's recall lower and
    its density higher than those of a perfect sampler.

    Metrics that need more images than `real` has are left out (see `too_few`).

    Args:
        samples, train: (N, C, H, W) uint8.
        real: N images; metrics depend on N, so it must be equal for both.
        net: computes features and classes.
        asked: the class that each sample was drawn for, (N,); None if there is none.

    Returns:
        fid_own, kid_own, precision, recall, density, coverage (see `src.metrics.fid`), each also
        with the suffix _floor; confidence: mean of the highest class probability of a sample;
        class_K: share of samples that look like class K; least_class: the smallest of these shares;
        asked_acc: share of samples that look like the class that they were drawn for; features_acc:
        share of real images that `net` classifies correctly.
    """
    real_features, real_probabilities = net.describe(real.images)
    sample_features, probabilities = net.describe(samples)
    train_features, _ = net.describe(train)
    metrics: dict[str, float] = {}
    for min_images, _, measure in MEASURES:
        if len(samples) >= min_images:
            metrics |= measure(real_features, sample_features)
            floor = measure(real_features, train_features)
            metrics |= {f"{name}_floor": value for name, value in floor.items()}
    if asked is not None:
        metrics["asked_acc"] = _share(probabilities.argmax(1) == asked)
    counts = probabilities.argmax(1).bincount(minlength=probabilities.shape[1]).tolist()
    metrics |= {f"class_{label}": count / len(samples) for label, count in enumerate(counts)}
    return metrics | {
        "confidence": probabilities.double().max(1).values.mean().item(),
        "least_class": min(counts) / len(samples),
        "features_acc": _share(real_probabilities.argmax(1) == real.labels.cpu()),
    }


def too_few(n: int) -> list[str]:
    """Return the metrics that need more than `n` images of each set, and how many they need."""
    return [f"{names} (they need {needed} images)" for needed, names, _ in MEASURES if n < needed]


def _share(right: Tensor) -> float:
    return right.double().mean().item()
