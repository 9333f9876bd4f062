"""Look at photos before training: duplicates, contradictions, leaks, small and dark ones."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from PIL import Image
from tqdm import tqdm

from src.core.files import printable
from src.core.image_files import LeftOut, count_line
from src.data.decode import Fit, decode
from src.data.sets.files import FileSet
from src.data.sets.folder import Folder

NEAR = 0.98  # correlation of the thumbnails of near duplicates; different photos stay below it
SMALL = 64  # pixels: a shorter side is small
DARK = 0.08  # a mean luma below it, in [0, 1], is dark


@dataclass(frozen=True, eq=False)
class Photo:
    """The facts about one photo that the inspection needs.

    Attributes:
        path: its file.
        label: index of its class.
        digest: of the file's bytes; equal for exact copies.
        thumbnail: (1024,) luma of 32 x 32 pixels without its mean, of length 1; zeros if all pixels
            are the same. Copies that were scaled, brightened or saved again correlate.
        side: the shorter side in pixels.
        luma: mean brightness in [0, 1].
    """

    path: Path
    label: int
    digest: str
    thumbnail: np.ndarray
    side: int
    luma: float


def look_at(path: Path, label: int) -> Photo:
    """Read one photo. Raises UserError if it cannot be read."""
    gray = decode(path, Fit((32, 32), 1))[0].double().numpy() / 255
    with Image.open(path) as image:
        side = min(image.size)
    return Photo(path, label, digest_of(path), unit_vector(gray), side, float(gray.mean()))


def digest_of(path: Path) -> str:
    """Return 32 hex digits that identify the bytes of a file."""
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def unit_vector(gray: np.ndarray) -> np.ndarray:
    """Return pixels as a vector with mean 0 and length 1; zeros if all are the same."""
    centered = gray.ravel() - gray.mean()
    length = float(np.linalg.norm(centered))
    return centered / length if length > 1e-6 else np.zeros_like(centered)


def look_at_all(paths: Sequence[Path], labels: Sequence[int]) -> list[Photo]:
    """Read photos, with one thread per core."""
    with ThreadPoolExecutor() as pool:
        looks = pool.map(look_at, paths, labels)
        return [*tqdm(looks, "looking at photos", len(paths), disable=None, leave=False)]


class Inspection(NamedTuple):
    """The result of looking at the photos of a folder.

    Attributes:
        photos: those to train on, in the order of the data set.
        groups: a number for each of `photos`; near duplicates share one.
        excluded: photos that are left out, by reason.
        warnings: photos that are used, but deserve a look, by reason.
        test: the photos of the test folder.
        class_names: one per label.
        unread: other files that are left out, by reason.
    """

    photos: list[Photo]
    groups: list[int]
    excluded: LeftOut
    warnings: LeftOut
    test: list[Photo]
    class_names: list[str]
    unread: LeftOut

    @property
    def labels(self) -> list[int]:
        """The label of each photo."""
        return [photo.label for photo in self.photos]

    @property
    def digests(self) -> list[str]:
        """The digest of each photo."""
        return [photo.digest for photo in self.photos]


def look(data: Folder) -> Inspection:
    """Read all photos of a data set whose images stay in files."""
    data.setup()
    parts = [cast(FileSet, part) for part in (data.train, data.test)]
    train, test = (look_at_all(part.paths, part.labels.tolist()) for part in parts)
    val = cast(FileSet, data.val).paths
    unread = data.scan.left_out | ({"in a folder of validation photos": val} if val else {})
    return inspect(train, test)._replace(class_names=data.class_names, unread=unread)


def table(found: Inspection) -> str:
    """Return the number of photos of each class, and what is done about photos that need it."""
    counts = Counter(found.labels)
    rows = [(name, str(counts[label])) for label, name in enumerate(found.class_names)]
    width = max(len(name) for name, _ in rows)
    lines = [f"{len(found.photos)} photos of {len(rows)} classes"]
    lines += [f"  {name.ljust(width)}  {count:>4}" for name, count in rows]
    if found.test:
        lines.append(f"{len(found.test)} photos in the test folder, used once at the end")
    if found.unread:
        lines.append(count_line(found.unread))
    for what, reasons in (("left out", found.excluded), ("used, but look at them", found.warnings)):
        for reason, paths in reasons.items():
            lines.append(f"{what}: {len(paths)} {reason}, such as {printable(paths[0])}")
    if few := [name for name, count in rows if int(count) < 2]:
        lines.append(
            f"one photo only: {', '.join(few)}; the estimate of the accuracy leaves them out"
        )
    return "\n".join(lines)


def inspect(train: Sequence[Photo], test: Sequence[Photo] = ()) -> Inspection:
    """Decide which photos to train on.

    Exact copies within a class count once. Exact copies with different labels contradict each
    other: all are left out. A training photo that is a copy of a test photo, exact or near, is left
    out, because the test would be too easy. Near duplicates stay; they belong to one group, so that
    no fold of a cross-validation trains on one and validates on the other.
    """
    excluded: LeftOut = defaultdict(list)
    test_digests = {photo.digest for photo in test}
    tested = np.array([photo.thumbnail for photo in test])
    labels_of: dict[str, set[int]] = defaultdict(set)
    for photo in train:
        labels_of[photo.digest].add(photo.label)
    kept: list[Photo] = []
    seen: set[str] = set()
    for photo in train:
        if len(labels_of[photo.digest]) > 1:
            excluded["the same photo in several classes"].append(photo.path)
        elif photo.digest in seen:
            excluded["exact copies within a class"].append(photo.path)
        elif photo.digest in test_digests or (test and (tested @ photo.thumbnail).max() > NEAR):
            excluded["copies of test photos"].append(photo.path)
        else:
            seen.add(photo.digest)
            kept.append(photo)
    groups = near_duplicates([photo.thumbnail for photo in kept])
    return Inspection(kept, groups, dict(excluded), _warnings(kept, groups), list(test), [], {})


def near_duplicates(thumbnails: Sequence[np.ndarray]) -> list[int]:
    """Return a group number for each photo; those that are near, also through others, share one."""
    groups = list(range(len(thumbnails)))
    matrix = np.array(thumbnails)
    for i in range(1, len(groups)):
        correlations = matrix[:i] @ matrix[i]
        for j in np.flatnonzero(correlations > NEAR):
            low, high = sorted((groups[i], groups[j]))
            if low != high:
                groups = [low if group == high else group for group in groups]
    return groups


def _warnings(photos: Sequence[Photo], groups: Sequence[int]) -> LeftOut:
    found: LeftOut = defaultdict(list)
    labels_in: dict[int, set[int]] = defaultdict(set)
    sizes: dict[int, int] = defaultdict(int)
    for photo, group in zip(photos, groups, strict=True):
        labels_in[group].add(photo.label)
        sizes[group] += 1
    for photo, group in zip(photos, groups, strict=True):
        if len(labels_in[group]) > 1:
            found["near duplicates in several classes"].append(photo.path)
        elif sizes[group] > 1:
            found["near duplicates within a class"].append(photo.path)
        if photo.side < SMALL:
            found[f"smaller than {SMALL} pixels"].append(photo.path)
        if photo.luma < DARK:
            found["very dark"].append(photo.path)
    return dict(found)
