"""Types for the annotations of settings: `lr: Positive`, `dropout: Fraction`, `root: PathText`.

The annotation of a parameter says which values a config may give it. `src.config.schema` checks
them, and reads the annotations from source, so a wrong value is answered before torch is imported.
For a type checker they are plain `int`, `float` and `str`.

Other annotations have their usual meaning: `bool`, `Literal["min", "max"]`, `X | None`,
`tuple[X, Y]`, `dict[str, X]`. A `str` must not be empty. A `list[X]` or `Sequence[X]` needs at
least one member; `AnyLength[X]` does not.

The limits have the names of the package annotated-types (ge, gt, le, lt, Predicate).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Interval:
    """Limits of a number: >= ge, > gt, <= le, < lt."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None


@dataclass(frozen=True)
class Length:
    """Limits of the number of members of a list."""

    min: int
    max: int | None = None


@dataclass(frozen=True)
class Predicate:
    """A condition that a function checks.

    Attributes:
        func: value -> whether it is allowed.
        description: the allowed values, for the error message; or a function that returns it for a
            wrong value.
    """

    func: Callable[[object], bool]
    description: str | Callable[[object], str]


@dataclass(frozen=True)
class Advice:
    """Advice to append to the error message of a wrong value."""

    description: str


@dataclass(frozen=True)
class Mark:
    """A property of a setting other than its values."""

    name: str


PATH = Mark("path")  # may contain any character; ~ is the home folder
RESUMABLE = Mark("resumable")  # a resumed run may change it
INPUT = Mark("input")  # a file or folder that must exist
RUN = Mark("run")  # the folder of a run; see `src.core.run_search.find_run`
TEXT = Mark("text")  # free text: no character has a special meaning
COUNTED = Mark("counted")  # null: filled in from the data before the object is built

PositiveInt = Annotated[int, Interval(ge=1)]
NonNegativeInt = Annotated[int, Interval(ge=0)]
Positive = Annotated[float, Interval(gt=0)]
NonNegative = Annotated[float, Interval(ge=0)]
Probability = Annotated[float, Interval(ge=0, le=1)]  # [0, 1]
Fraction = Annotated[float, Interval(ge=0, lt=1)]  # [0, 1)
Share = Annotated[float, Interval(gt=0, le=1)]  # (0, 1]
Seed = Annotated[int, Interval(ge=0, le=2**63 - 1)]

PathText = Annotated[str, PATH]
RunPath = Annotated[str, PATH, RUN]
InputPath = Annotated[str, PATH, INPUT]
FreeText = Annotated[str, TEXT]
Resumable = Annotated[T, RESUMABLE]
Counted = Annotated[PositiveInt, COUNTED]

AnyLength = Annotated[Sequence[T], Length(0)]  # also an empty list
Pair = Annotated[Sequence[T], Length(2, 2)]


def _is_timm_net(value: object) -> bool:
    from src.core import timm_names

    return isinstance(value, str) and timm_names.is_known(value)


def _nearest_timm_net(value: object) -> str:
    from src.core import timm_names

    return f"the name of a network of timm{timm_names.nearest(str(value))}"


TimmName = Annotated[str, Predicate(_is_timm_net, _nearest_timm_net)]  # ARCHITECTURE or .TAG too

ImageSide = Annotated[int, Interval(ge=1, le=4096)]
ImageSize = ImageSide | Pair[ImageSide]  # a square's side, or [height, width]


def height_width(size: ImageSize) -> tuple[int, int]:
    """Return height and width of images of `size`."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _is_color(value: object) -> bool:
    from PIL import ImageColor

    try:
        return isinstance(value, str) and bool(ImageColor.getrgb(value))
    except ValueError:
        return False


ColorName = Annotated[str, Predicate(_is_color, "a color's name, '#rrggbb'")]  # Pillow's names
Color = ColorName | Annotated[Sequence[Annotated[int, Interval(ge=0, le=255)]], Length(3, 3)]

Duration = Annotated[
    str,
    Predicate(
        lambda value: bool(re.fullmatch(r"(?=.*[1-9])\d+:\d\d:\d\d:\d\d", str(value))),
        "DD:HH:MM:SS, longer than 0",
    ),
]

Budget = Annotated[
    str,
    Predicate(lambda value: budget_seconds(value) > 0, "a time such as 90s, 10m or 2h"),
]


def budget_seconds(value: object) -> float:
    """Return the seconds of a time such as 90s, 10m or 2h; 0 if it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", str(value))
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0


PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
PictureName = Annotated[  # the name of a file that Pillow can write
    str,
    Predicate(
        lambda value: str(value).lower().endswith(PICTURES),
        f"a name that ends in one of {', '.join(PICTURES)}",
    ),
    PATH,
]
