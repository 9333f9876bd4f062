"""The columns of each table of the result pages."""

from collections.abc import Callable
from functools import partial

from results.tables import (
    Cell,
    Columns,
    Metric,
    each_sentence,
    fact,
    label,
    markdown,
    read,
    sentence_interval,
    sentence_mean,
    sentence_std,
    table,
)

FID, BOUND, IWAE = Metric("test/fid_own"), Metric("test/bound_nats"), Metric("test/iwae_nats")
ACC = Metric("test/acc", scale=100)
ACC_ENDS = Metric("test/acc", scale=100, ends=1)
ACC_SHORT = Metric("test/acc", digits=1, scale=100)
VAL_ACC = Metric("val/acc", scale=100)
SECONDS = Metric("seconds", digits=0)
PSNR, SSIM = Metric("psnr"), Metric("ssim", digits=3)
RATES = ("0.003", "0.007", "0.02", "0.03", "0.05", "0.1", "0.3")  # of transfer_settings


def val(name: str, digits: int = 1) -> Cell:
    """Show a validation accuracy in percent."""
    return Metric(f"val/acc, {name}", digits, scale=100).each


def rate(name: str) -> Cell:
    """Show the range of a speed in images per second."""
    return Metric(f"{name}_images_per_second", digits=0).range


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
    "draw": [
        ("recipe", label),
        ("epochs", fact("epochs")),
        ("bound: seeds 0, 1", BOUND.each),
        ("IWAE, k = 100", IWAE.each),
        ("reference", fact("reference")),
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
        ("seconds", SECONDS.each),
    ],
    "vgg_settings": [
        ("recipe", label),
        ("epochs", fact("epochs")),
        ("accuracy", VAL_ACC.each),
        ("accuracy with shifted views", val("six views", digits=2)),
    ],
    "pets": [
        ("recipe", label),
        ("accuracy (95%)", ACC_SHORT.share_interval),
        ("correct cats, percent", Metric("test_classes/cat", 0, scale=100).each),
        ("correct dogs, percent", Metric("test_classes/dog", 0, scale=100).each),
        ("seconds", SECONDS.each),
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
        ("accuracy (95%), by seed", ACC_SHORT.share_interval),
        ("minutes", Metric("minutes", 1).each),
    ],
    "nanonet": [
        ("photos", label),
        ("classes", fact("classes")),
        ("expected accuracy (95%), by seed", Metric("cv/acc", 1, scale=100).stored_interval),
        ("accuracy on test photos (95%)", ACC_SHORT.share_interval),
        ("minutes", Metric("minutes", 1).each),
    ],
    "nanonet_ways": [
        ("training", label),
        *(
            (f"{title}{end}", cell)
            for title, metric in (
                ("4 breeds", Metric("test/acc, breeds", 1, scale=100)),
                ("4 classes of CIFAR-10", Metric("test/acc, cifar", 1, scale=100)),
            )
            for end, cell in (
                (": seeds 0 to 4", metric.each),
                (", mean (95%)", metric.mean_interval),
            )
        ),
    ],
    "nanonet_forecast": [
        ("seed", label),
        ("1 photo, measured", Metric("at 1", 1, scale=100).stored_interval),
        ("2, forecast", Metric("forecast 2", 1, scale=100).stored_interval),
        ("2, measured later", Metric("at 2", 1, scale=100).each),
        ("4, forecast", Metric("forecast 4", 1, scale=100).stored_interval),
        ("4, measured later", Metric("at 4", 1, scale=100).each),
    ],
    "nanonet_unlike": [
        ("photos of the run", label),
        ("MNIST digits", Metric("unlike, digits", 1, scale=100).each),
        ("trucks of CIFAR-10", Metric("unlike, trucks", 1, scale=100).each),
        ("its own test photos", Metric("unlike, own", 1, scale=100).each),
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
    "speed": [
        ("recipe", label),
        ("rounds", fact("rounds")),
        ("batches", fact("batches")),
        ("warm-up batches", fact("warmup")),
        ("plain loop, float32", rate("plain")),
        ("our loop, float32", rate("float32")),
        ("ratio: median (minimum to maximum)", Metric("ratio_float32").median_range),
        ("our loop, bf16", rate("bf16")),
        ("ratio", Metric("ratio_bf16").median_range),
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


def quote(text: str, name: str, run: str, cell: Cell) -> Callable[[], str]:
    """Return a function that puts a cell of results/NAME.csv into `text` at {}."""
    return lambda: text.format(cell(read(name), run))


FID_TEXT = "FID {} (features of our own classifier, not Inception)"
# family, its page, recipe, test result, reference, minutes of one run
SUMMARY: list[tuple[str, str, str, Callable[[], str], str | Callable[[], str], str]] = [
    (
        "DCGAN, MNIST",
        "gan",
        "dcgan_mnist",
        quote(FID_TEXT, "gan", "dcgan_mnist", FID.mean_std),
        quote("{} (training images against test images)", "gan", "floor", FID.mean),
        "",
    ),
    (
        "WGAN-GP, MNIST",
        "gan",
        "wgan_gp_mnist",
        quote(FID_TEXT, "gan", "wgan_gp_mnist", FID.mean_std),
        quote("{} (training images against test images)", "gan", "floor", FID.mean),
        "",
    ),
    (
        "DRAW, binarized MNIST",
        "draw",
        "draw_mnist",
        quote("bound of {} nats after 22 epochs", "draw", "draw_mnist", BOUND.mean),
        "at most 80.97 (Gregor 2015)",
        "80",
    ),
    (
        "Convnet, MNIST",
        "classifiers",
        "mnist_best",
        quote("{}% accuracy", "mnist_best", "mnist_best", ACC.mean),
        "",
        "12 to 16",
    ),
    (
        "VGG, CIFAR-10 (JPEG)",
        "classifiers",
        "vgg_cifar10_best",
        quote("{}% accuracy", "cifar10_classifiers", "vgg_cifar10_best", ACC.each),
        "84.9% with the tutorial's recipe",
        "108",
    ),
    (
        "Augmentation, 500 images",
        "augmentation",
        "few_images",
        quote("{}% accuracy", "few_images", "standard", ACC.mean),
        quote("{}% without augmentation", "few_images", "none", ACC.mean),
        "2 to 4",
    ),
    (
        "Transfer, 200 images",
        "transfer",
        "transfer_finetuned",
        quote("{}% accuracy", "transfer", "transfer_finetuned", ACC.mean),
        quote("{}% from scratch", "transfer", "transfer_scratch", ACC.mean),
        "1.4",
    ),
    (
        "CycleGAN, photographs to winter",
        "cyclegan",
        "cyclegan_winter",
        quote("PSNR {} dB", "cyclegan", "to winter", PSNR.mean),
        quote("{} dB by per-channel histogram matching", "cyclegan", "histogram", PSNR.mean),
        "19 to 37",
    ),
    (
        "Sentiment, 10 sentences",
        "words",
        "leave_one_out",
        quote("accuracy {}", "reviews", "pretrained, frozen", sentence_mean),
        quote("{} with random vectors", "reviews", "random, frozen", sentence_mean),
        "",
    ),
]


def summary(folder: str) -> str:
    """Return the table of one line per family, with links to its pages in `folder`."""
    rows = []
    for family, page, recipe, result, reference, minutes in SUMMARY:
        shown = reference if isinstance(reference, str) else reference()
        rows.append([f"[{family}]({folder}{page}.md)", f"`{recipe}`", result(), shown, minutes])
    return markdown(["family", "recipe", "test result", "reference", "minutes of training"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "summary": partial(summary, "docs/results/"),
    **{name: partial(table, name, columns) for name, columns in COLUMNS.items()},
}
