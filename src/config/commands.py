"""Types of the settings that belong to a command itself, not to a group such as data or model.

conf/NAME.yaml holds their default values and a comment for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

from src.config.nodes import Benchmark, Checkpointing, Found, Objective, Photos, Recommended
from src.core.chosen_checkpoint import Which
from src.core.types import (
    AnyLength,
    Budget,
    FreeText,
    ImageSide,
    ImageSize,
    Interval,
    NonNegative,
    NonNegativeInt,
    PathText,
    PictureName,
    Positive,
    PositiveInt,
    Resumable,
    RunPath,
    Seed,
)

Images = PathText | Sequence[PathText]  # files, folders and globs


@dataclass
class Train:
    """python -m src.train"""

    seed: Seed
    out: PathText
    resume: RunPath | None
    on_nonfinite: Resumable[Literal["stop", "warn"]]
    test: Resumable[bool]
    profiler: Resumable[Literal["simple", "pytorch"] | None]
    cache: Resumable[PathText]
    checkpoint: Resumable[Checkpointing]
    objective: Resumable[Objective]
    name: Resumable[str | None]
    tags: Resumable[AnyLength[str]]
    note: Resumable[FreeText | None]
    recommended: Recommended


@dataclass
class Bench(Train):
    """python -m src.bench"""

    bench: Benchmark


@dataclass
class LRFinder(Train):
    """python -m src.lr_finder"""

    min_lr: Positive
    max_lr: Positive
    batches: Annotated[int, Interval(ge=20)]
    picture: PictureName


@dataclass
class LeaveOneOut(Train):
    """python -m src.bench.leave_one_out"""

    seeds: Annotated[int, Interval(ge=2)]
    vectors: PathText | None


@dataclass
class BenchAugment:
    """python -m src.bench.augment"""

    seed: Seed
    size: ImageSide
    batch_size: PositiveInt
    batches: PositiveInt
    rounds: PositiveInt


@dataclass
class BenchFamilies:
    """python -m src.bench.families"""

    families: Sequence[str] | None
    mnist: PathText | None
    cifar10: PathText | None
    loops: AnyLength[str] | None
    rounds: PositiveInt
    starts: NonNegativeInt
    machine: str | None
    out: PathText


@dataclass
class BenchScaling:
    """python -m src.bench.scaling"""

    axes: Sequence[str] | None
    mnist: PathText | None
    cifar10: PathText | None
    rounds: PositiveInt
    machine: str | None
    out: PathText


@dataclass
class BenchServe:
    """python -m src.bench.serve"""

    run: RunPath
    images: Images | None
    batch_sizes: Sequence[PositiveInt]
    seconds: Positive
    minutes: NonNegative


@dataclass
class Runs:
    """python -m src.runs"""

    out: PathText
    where: FreeText | None
    sort: FreeText
    metrics: str | Sequence[str] | None
    average_seeds: bool
    csv: PathText | None


@dataclass
class Compare:
    """python -m src.runs compare"""

    runs: RunPath | Sequence[RunPath]
    metrics: str | Sequence[str] | None
    average_seeds: bool | None
    out: PictureName | None


@dataclass
class Evaluate:
    """python -m src.evaluate"""

    run: RunPath
    which: Which
    data: dict[str, PathText]
    n: PositiveInt | None
    seed: Seed | None
    inception: bool | None
    iwae_samples: PositiveInt | None
    iwae_rows: PositiveInt


@dataclass
class Sample:
    """python -m src.sample"""

    run: RunPath
    which: Which
    data: dict[str, PathText]
    n: PositiveInt
    seed: Seed
    interpolate: Annotated[int, Interval(ge=2)] | None
    scale: Annotated[int, Interval(ge=1, le=64)]
    out: PathText


@dataclass
class Predict:
    """python -m src.predict"""

    run: RunPath
    which: Which
    images: Images
    top: PositiveInt
    batch_size: PositiveInt
    out: PathText
    picture: PictureName | None


@dataclass
class Translate:
    """python -m src.translate"""

    run: RunPath
    which: Which
    images: Images
    to: Literal["a", "b"]
    size: ImageSize | None
    out: PathText


@dataclass
class Export:
    """python -m src.export"""

    run: RunPath
    which: Which
    format: Literal["onnx", "torch"]
    out: PathText


@dataclass
class Augment:
    """python -m src.augment"""

    factor: Annotated[int, Interval(ge=2, le=1000)]
    out: PathText
    seed: Seed
    preview: PathText | None
    cache: PathText


@dataclass
class AugmentByModel:
    """The group choice augment=model of src.augment."""

    run: RunPath | Sequence[RunPath]
    which: Which
    size: ImageSize | None
    to: Literal["a", "b"]


@dataclass
class NanoNet:
    """python -m src.nanonet"""

    data: Photos
    candidate: dict[str, Sequence[str]]
    found: Found
    out: PathText | None
    init: PathText | None
    budget: Budget
    folds: Annotated[int, Interval(ge=2, le=100)]
    repeats: Annotated[int, Interval(ge=1, le=100)]
    seed: Seed
    cache: PathText


@dataclass
class Serve:
    """python -m src.serve"""

    run: RunPath
    which: Which
    host: str
    port: Annotated[int, Interval(ge=0, le=65535)]
    token: FreeText | None
    batch_size: PositiveInt
    queue: PositiveInt
    timeout: Positive
    max_megabytes: Positive
    max_megapixels: Positive
    max_files: PositiveInt


COMMANDS = {
    "train": Train,
    "bench": Bench,
    "lr_finder": LRFinder,
    "leave_one_out": LeaveOneOut,
    "bench_augment": BenchAugment,
    "bench_families": BenchFamilies,
    "bench_scaling": BenchScaling,
    "bench_serve": BenchServe,
    "runs": Runs,
    "compare": Compare,
    "evaluate": Evaluate,
    "sample": Sample,
    "predict": Predict,
    "translate": Translate,
    "export": Export,
    "augment": Augment,
    "nanonet": NanoNet,
    "serve": Serve,
}


def types_of(settings: type) -> dict[str, Any]:
    """Return the type of each setting of a class in this module."""
    return get_type_hints(settings, include_extras=True)
