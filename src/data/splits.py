"""How a data set is split into training, validation and test: pure functions on labels."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from src.core.counts import count
from src.core.errors import UserError, near
from src.core.randomness import generator
from src.data.images import Images, Splits


def resolve_count(size: int | float, n: int) -> int:
    """Return `size`, or that fraction of `n` if it is between 0 and 1."""
    return round(size * n) if 0 < size < 1 else int(size)


def resolve_classes(
    requested: Sequence[str | int],
    names: Sequence[str],
    normalize: Callable[[str], str] = str,
) -> list[str]:
    """Return the requested classes, spelled as in `names`.

    Args:
        requested: the value of data.classes; a name of digits arrives as an int.
        names: all classes of the data set.
        normalize: a name -> the part of it that is compared.

    Raises:
        UserError: a requested class does not exist, or occurs twice.
    """
    known = {normalize(name): name for name in names}
    words = [str(word) for word in requested]
    for word in words:
        if normalize(word) not in known:
            hint = near(normalize(word), list(known))
            raise UserError(f"data.classes: {word} is none of the classes {', '.join(names)}{hint}")
    classes = [known[normalize(word)] for word in words]
    if len(set(classes)) < len(classes):
        raise UserError(f"data.classes=[{', '.join(words)}]: a class occurs twice")
    return classes


def first_of_each_class(labels: Tensor, per_class: int, class_names: Sequence[str]) -> Tensor:
    """Return the indices of the first `per_class` images of each class.

    Args:
        labels: (N,).
        per_class: images per class.
        class_names: one per label.

    Raises:
        UserError: the set has no labels, or a class has fewer images.
    """
    if not class_names:
        raise UserError(
            f"data.train_per_class={per_class} needs labels; data.train_size works without"
        )
    indices = [(labels == k).nonzero().flatten() for k in range(len(class_names))]
    name, fewest = min(zip(class_names, map(len, indices), strict=True), key=lambda pair: pair[1])
    if fewest < per_class:
        raise UserError(
            f"data.train_per_class={per_class}: class {name} has only "
            f"{count(fewest, 'training image')}"
        )
    return torch.cat([index[:per_class] for index in indices])


def stratified_split(labels: Tensor, order: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Draw `n` images so that each class keeps its share, rounded by largest remainders.

    Args:
        labels: (N,), of all images; images without labels count as one class.
        order: (M,), shuffled indices of the images to draw from; the first of each class are drawn.
        n: from 0 to M.

    Returns:
        The drawn indices (n,) and the others, both in the order of `order`. A class loses its last
        image only if there is no other way.
    """
    classes, place, sizes = labels[order].unique(return_inverse=True, return_counts=True)
    shares = sizes.double() * n / max(len(order), 1)
    quotas = shares.floor().long()

    def rounding_priority(k: int) -> tuple[bool, float, int]:
        takes_all = bool(quotas[k] + 1 >= sizes[k])
        return takes_all, float(quotas[k] - shares[k]), k

    by_remainder = sorted(range(len(classes)), key=rounding_priority)
    quotas[by_remainder[: n - int(quotas.sum())]] += 1
    drawn = torch.zeros(len(order), dtype=torch.bool)
    for k, quota in enumerate(quotas.tolist()):
        drawn[(place == k).nonzero().flatten()[:quota]] = True
    return order[drawn], order[~drawn]


def stratified_sample(labels: Tensor, n: int | None, *seed: int | str) -> Tensor:
    """Draw at most `n` images so that each class keeps its share.

    Args:
        labels: (N,), of all images.
        n: sample size; None: all images.
        seed: what the sample depends on.

    Returns:
        Their indices in ascending order.
    """
    order = torch.randperm(len(labels), generator=generator(*seed))
    return stratified_split(labels, order, min(len(labels), n or len(labels)))[0].sort().values


def split_off_test(part: Images, test_size: int | float, split_seed: int, name: str) -> Splits:
    """Split off a stratified test set from a source that has none.

    Args:
        part: all images.
        test_size: number of test images, or a fraction; 0: none.
        split_seed: seed of the split.
        name: name of the data set, for errors.

    Raises:
        UserError: no image is left for test or training.
    """
    n_test = resolve_count(test_size, len(part))
    if (n_test == 0 and test_size > 0) or n_test >= len(part):
        raise UserError(
            f"data.test_size={test_size} does not fit {name}, which has "
            f"{count(len(part), 'image')} in all"
        )
    order = torch.randperm(len(part), generator=generator(split_seed, "test"))
    test, train = stratified_split(part.labels, order, n_test)
    return Splits(train=part.subset(train.sort().values), test=part.subset(test.sort().values))


def missing_classes(parts: dict[str, Images], class_names: Sequence[str]) -> str:
    """Return which classes have no image in which part, as 'test: cats, dogs'; '' if none."""
    lines = []
    for name, part in parts.items():
        present = set(part.labels.tolist())
        if not present or -1 in present:
            continue
        missing = [word for k, word in enumerate(class_names) if k not in present]
        more = [f"{len(missing) - 10} more"] if len(missing) > 10 else []
        lines += [f"{name}: {', '.join([*missing[:10], *more])}"] if missing else []
    return "; ".join(lines)


def check_labels(splits: Splits, num_classes: int | None, source: str) -> None:
    """Raise UserError if a label is not in 0..num_classes - 1; `source` names the set."""
    for part in (splits.train, splits.val, splits.test):
        if num_classes is None or part is None or not len(part):
            continue
        low, high = int(part.labels.min()), int(part.labels.max())
        if low < 0 or high >= num_classes:
            raise UserError(
                f"{source}: a label is {high if high >= num_classes else low}, "
                f"but {num_classes} classes have labels 0 to {num_classes - 1}"
            )


def expect_same_classes(now: list[str], learned: list[str], name: str) -> None:
    """Raise UserError unless the data set `name` has the classes that a model has learned."""
    if now == learned:
        return
    new = [name for name in now if name not in learned]
    gone = [name for name in learned if name not in now]
    changes = [f"new: {', '.join(new)}"] if new else []
    changes += [f"gone: {', '.join(gone)}"] if gone else []
    difference = "; ".join(changes) or "the same in another order"
    raise UserError(f"{name} has other classes than the data of the run ({difference})")


def listing(paths: Sequence[Path], root: Path, n: int) -> str:
    """Return the number and a digest of the names of image files, to notice changes.

    Args:
        paths: all of them, in the order from which sets are drawn.
        root: the folder that they are in. Their names below it count, so that it may be moved.
        n: how many can be read.
    """
    names = "\0".join(str(path.relative_to(root)) for path in paths)
    text = names.encode(errors="surrogateescape")
    return f"{count(n, 'image')} ({hashlib.blake2b(text, digest_size=8).hexdigest()})"


def expect_same_pool(now: str | None, learned: str | None, root: str) -> None:
    """Raise UserError unless a test set is drawn from the same files as in the run."""
    if now != learned:
        raise UserError(
            f"the test images are drawn from the files in {root}, which have changed since the run "
            f"began: {learned or 'a test folder'} then, {now or 'a test folder'} now. Restore them "
            "(data.exclude=FILE leaves out new ones): another draw would test on training images"
        )
