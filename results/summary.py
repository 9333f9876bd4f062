"""The table of RESULTS.md with one line for each family."""

from collections.abc import Callable

from results.tables import Cell, Metric, markdown, read, sentence_mean

FID, BOUND = Metric("test/fid_own"), Metric("test/bound_nats")
ACC, PSNR = Metric("test/acc", scale=100), Metric("psnr")


def quote(text: str, name: str, run: str, cell: Cell) -> Callable[[], str]:
    """Return a function that puts a cell of results/NAME.csv into `text` at {}."""
    return lambda: text.format(cell(read(name), run))


FID_TEXT = "FID {} (features of our own classifier, not Inception)"
# family, its page, recipe, test result, reference, minutes of a run
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
        quote("bound of {} nats", "draw", "draw_mnist_500", BOUND.mean),
        "at most 80.97 (Gregor 2015)",
        "",
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
        quote("{}% accuracy", "cifar10_classifiers", "vgg_cifar10_best", ACC.mean),
        "84.9% with the tutorial's recipe",
        "108 (seed 0)",
    ),
    (
        "Airbench's network, CIFAR-10 (JPEG)",
        "classifiers",
        "cifar10_fast",
        quote("{}% accuracy", "cifar10_classifiers", "cifar10_fast", ACC.mean),
        "94% on the original images (Jordan 2024)",
        "29 (seed 0)",
    ),
    (
        "Augmentation, 500 images",
        "augmentation",
        "few_images augment=standard",
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
        "",
    ),
    (
        "Sentiment, 10 sentences",
        "words",
        "src.bench.leave_one_out",
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
    return markdown(["family", "recipe", "test result", "reference", "minutes"], rows)
