"""The columns of each table of the result pages."""

from collections.abc import Callable
from functools import partial

from results.goals import goals
from results.summary import ACC, BOUND, FID, PSNR, summary
from results.tables import (
    Cell,
    Columns,
    Metric,
    each_sentence,
    fact,
    label,
    sentence_interval,
    sentence_mean,
    sentence_std,
    table,
)

IWAE = Metric("test/iwae_nats")
ACC_ENDS = Metric("test/acc", scale=100, ends=1)
VAL_ACC = Metric("val/acc", scale=100)
SECONDS = Metric("seconds", digits=0)
SSIM = Metric("ssim", digits=3)
RATES = ("0.003", "0.007", "0.02", "0.03", "0.05", "0.1", "0.3")  # of transfer_settings


def val(name: str, digits: int = 1) -> Cell:
    """Show a validation accuracy in percent."""
    return Metric(f"val/acc, {name}", digits, scale=100).each


def percent(name: str) -> Metric:
    """Return a share that is shown in percent."""
    return Metric(name, digits=1, scale=100)


def rate(name: str) -> Cell:
    """Show the range of a speed in images per second."""
    return Metric(f"{name}_images_per_second", digits=0).range


SPEED: Columns = [
    ("recipe", label),
    ("images per batch", fact("batch")),
    ("plain loop", rate("plain")),
    ("lean loop", rate("lean")),
    ("empty Trainer", rate("empty")),
    ("ours", rate("ours")),
    ("ours / plain", Metric("ratio_plain").median_range),
    ("ours / lean", Metric("ratio_lean").median_range),
    ("ours / empty", Metric("ratio_empty").median_range),
]


COLUMNS: dict[str, Columns] = {
    "gan": [
        ("recipe", label),
        ("epochs", fact("epochs")),
        ("FID: seeds 0, 1, 2", FID.each),
        ("FID", FID.mean_std),
        ("KID", Metric("test/kid_own", 3).mean),
        ("precision", Metric("test/precision").mean),
        ("recall", Metric("test/recall").mean),
        ("coverage", Metric("test/coverage").mean),
        ("rarest class, percent", Metric("test/least_class", 1, scale=100).least),
    ],
    "sweep": [
        ("settings", label),
        ("FID: seeds 101, 102, 103", FID.each),
        ("mean (95%)", FID.mean_interval),
        ("precision", Metric("test/precision", 3).mean),
        ("recall", Metric("test/recall", 3).mean),
        ("coverage", Metric("test/coverage", 3).mean),
    ],
    "draw": [
        ("recipe", label),
        ("epochs", fact("epochs")),
        ("bound: seeds 0, 1", BOUND.each),
        ("IWAE, k = 100", IWAE.each),
        ("reference", fact("reference")),
    ],
    "draw_steps": [
        ("model", label),
        ("steps T", fact("steps")),
        ("reading and writing window", fact("windows")),
        ("latents in all", fact("latents")),
        ("parameters", fact("parameters")),
        ("epochs", fact("epochs")),
        ("validation bound", Metric("val/bound_nats").each),
        ("test bound", Metric("test/bound_nats").each),
    ],
    "mnist_classifiers": [
        ("recipe", label),
        ("accuracy: seeds 0 to 4", ACC.each),
        ("mean ± standard deviation", ACC.mean_std),
        ("accuracy of a plain loop, 2 seeds", fact("reference")),
    ],
    "mnist_best": [
        ("recipe", label),
        ("epochs", fact("epochs")),
        ("accuracy (95%): seeds 0, 1, 2", ACC.share_interval),
        ("mean", ACC.mean),
        ("seconds", SECONDS.each),
    ],
    "cifar10_classifiers": [
        ("recipe", label),
        ("epochs", fact("epochs")),
        ("accuracy (95%), by seed", ACC.share_interval),
        ("mean", ACC.mean),
        ("accuracy, single view", Metric("test/acc_single_view", scale=100).each),
        ("target", fact("target")),
        ("seconds of one run", SECONDS.each),
    ],
    "resnet20": [
        ("augmentation", label),
        ("epochs", fact("epochs")),
        ("accuracy (95%): seeds 0, 1, 2", ACC_ENDS.share_interval),
        ("mean (95%)", ACC.mean_interval),
        ("gain over none (95%)", ACC.gain_over("none")),
        (
            "accuracy on the training batches of the last epoch",
            Metric("train/acc", 1, scale=100).mean,
        ),
    ],
    "vgg_settings": [
        ("recipe", label),
        ("epochs", fact("epochs")),
        ("accuracy", VAL_ACC.each),
        ("accuracy with shifted views", val("six views", digits=2)),
    ],
    "pets": [
        ("recipe", label),
        ("accuracy (95%)", percent("test/acc").share_interval),
        ("correct cats, percent", Metric("test_classes/cat", 0, scale=100).each),
        ("correct dogs, percent", Metric("test_classes/dog", 0, scale=100).each),
        ("seconds", SECONDS.each),
    ],
    "pets_pairs": [
        ("recipe", label),
        ("learning rate", fact("rate")),
        ("photos classified correctly, of 24: seeds 0 to 4", Metric("right", 0).each),
        ("accuracy: mean over seeds (95%)", percent("test/acc").mean_interval),
        ("gain over no dropout (95%)", percent("test/acc").gain_over("petnet_pets_no_dropout")),
    ],
    "few_images": [
        ("augment", label),
        ("accuracy: seeds 0, 1, 2", ACC.each),
        ("mean (95%)", ACC_ENDS.mean_interval),
        ("gain over `none` (95%)", ACC.gain_over("none")),
    ],
    "few_images_more": [
        ("augment", label),
        ("epochs", fact("epochs")),
        ("accuracy, by seed", ACC.each),
        ("mean", ACC.mean),
    ],
    "few_images_settings": [
        ("settings", label),
        ("`none`", val("none")),
        ("`standard`", val("standard")),
    ],
    "cifar10_all": [
        ("training set", label),
        ("accuracy (95%)", ACC_ENDS.share_interval),
        ("minutes", Metric("minutes", 0).each),
    ],
    "made_up_images": [
        ("added images", label),
        ("accuracy: seeds 0, 1, 2", ACC.each),
        ("mean (95%)", ACC_ENDS.mean_interval),
        ("gain over `none` (95%)", ACC.gain_over("none")),
    ],
    "transfer": [
        ("recipe", label),
        ("parameters trained", fact("trained")),
        ("accuracy: seeds 0 to 4", ACC.each),
        ("mean (95%)", ACC_ENDS.mean_interval),
        ("gain over `transfer_scratch` (95%)", ACC.gain_over("transfer_scratch")),
    ],
    "pets_transfer": [
        ("recipe", label),
        ("classes", fact("classes")),
        ("parameters trained", fact("trained")),
        ("accuracy (95%), by seed", percent("test/acc").share_interval),
        ("minutes", Metric("minutes", 1).each),
    ],
    "nanonet": [
        ("photos", label),
        ("classes", fact("classes")),
        ("expected accuracy (95%), by seed", percent("cv/acc").stored_interval),
        ("accuracy on test photos (95%)", percent("test/acc").share_interval),
        ("minutes", Metric("minutes", 1).each),
    ],
    "nanonet_ways": [
        ("training", label),
        ("4 breeds: seeds 0 to 4", percent("test/acc, breeds").each),
        ("mean (95%)", percent("test/acc, breeds").mean_interval),
        ("4 classes of CIFAR-10: seeds 0 to 4", percent("test/acc, cifar").each),
        ("mean (95%)", percent("test/acc, cifar").mean_interval),
    ],
    "nanonet_forecast": [
        ("seed", label),
        ("1 photo, measured", percent("at 1").stored_interval),
        ("2, forecast", percent("forecast 2").stored_interval),
        ("2, measured later", percent("at 2").each),
        ("4, forecast", percent("forecast 4").stored_interval),
        ("4, measured later", percent("at 4").each),
    ],
    "nanonet_unlike": [
        ("photos of the run", label),
        ("MNIST digits", percent("unlike, digits").each),
        ("trucks of CIFAR-10", percent("unlike, trucks").each),
        ("its own test photos", percent("unlike, own").each),
    ],
    "transfer_settings": [
        ("recipe", label),
        *((f"lr {r}", val(f"rate {r}")) for r in RATES),
    ],
    "cyclegan": [
        ("image", label),
        ("PSNR, dB: seeds 0, 1, 2", PSNR.each),
        ("mean PSNR (95%)", PSNR.mean_interval),
        ("SSIM: seeds 0, 1, 2", SSIM.each),
        ("mean SSIM (95%)", SSIM.mean_interval),
    ],
    "cyclegan_settings": [
        ("settings", label),
        ("PSNR to winter, dB", Metric("val/psnr_b").each),
        ("SSIM to winter", Metric("val/ssim_b", 3).each),
    ],
    "reviews": [
        ("vectors", label),
        ("accuracy", sentence_mean),
        ("standard deviation over seeds", sentence_std),
        ("95% interval over sentences", sentence_interval),
        ("accuracy of each sentence", each_sentence),
    ],
    "speed": [*SPEED[:6], ("ours in float32", rate("float32")), *SPEED[6:]],
    "speed_xeon": SPEED,
    "speed_xeon_new": [
        *SPEED,
        ("seconds to the first batch", Metric("start_seconds", digits=1).median_range),
        ("peak memory, MB", Metric("peak_memory_mb", digits=0).range),
    ],
    "gpu_speed": SPEED,
    "precision": [
        ("recipe", label),
        ("bf16, images/s", rate("bf16")),
        ("float32, images/s", rate("float32")),
        ("bf16 / float32", Metric("ratio_float32").each),
    ],
    "costs": [
        ("recipe", label),
        ("ms per batch", Metric("milliseconds", digits=1).each),
        ("network, percent", Metric("share_network", digits=1).each),
        ("optimizer, percent", Metric("share_optimizer", digits=1).each),
        ("largest other costs", fact("next")),
    ],
    "scaling": [
        ("setting", label),
        ("images/s", Metric("images_per_second", digits=0).range),
        ("peak memory, MiB", Metric("peak_memory_mb", digits=0).range),
    ],
    "compiling": [
        ("recipe", label),
        ("images per batch", fact("batch")),
        ("eager, images/s", rate("eager")),
        ("compiled, images/s", rate("compiled")),
        ("compiled / eager", Metric("speedup").each),
        ("seconds to compile", Metric("seconds", 0).each),
        ("break-even, batches", fact("break_even")),
    ],
    "augment_speed": [
        ("batch", label),
        ("ours", rate("ours")),
        ("torchvision", rate("torchvision")),
        ("kornia", rate("kornia")),
        ("ours / torchvision", Metric("ratio_torchvision").median_range),
        ("ours / kornia", Metric("ratio_kornia").median_range),
    ],
}


TABLES: dict[str, Callable[[], str]] = {
    "summary": partial(summary, "docs/results/"),
    "speed_goals": goals,
    **{name: partial(table, name, columns) for name, columns in COLUMNS.items()},
}
