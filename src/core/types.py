"""Words for the annotations of settings: `lr: Positive`, `dropout: Fraction`, `images: PathText | Sequence[PathText]`.

An annotation says which values a config may give. To a type checker they are plain `int`, `float` or `str`. The checks of a
config (`src.config.schema`) read the annotations of `__init__` and of functions from their source, so that a wrong value is
answered before torch is imported. Other annotations mean what they mean in Python: `bool`, `str` (not empty),
`Literal["min", "max"]`, `X | None`, `Sequence[X]` and `list[X]` (at least one member), `tuple[X, Y]`, `dict[str, X]`.

The limits have the names that annotated-types gives them (Ge, Gt, Le, Lt).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Interval:
    """Limits of a number: `ge` and `le` are allowed values themselves, `gt` and `lt` are not."""

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
class Where:
    """A condition that only code can state.

    Attributes:
        holds: value -> whether it is allowed.
        words: the allowed values, for the error message.
    """

    holds: Callable[[object], bool]
    words: str


@dataclass(frozen=True)
class Advice:
    """Words for the error message of a wrong value, besides the allowed ones."""

    words: str


@dataclass(frozen=True)
class Mark:
    """A property of a setting that is no limit of its value."""

    name: str


PATH = Mark("path")  # any character may be in it; ~ is the home folder
RESUMABLE = Mark("resumable")  # a resumed run may change it
COUNTED = Mark("counted")  # null in a config: counted from the data before the object is built

PositiveInt = Annotated[int, Interval(ge=1)]
NonNegativeInt = Annotated[int, Interval(ge=0)]
Positive = Annotated[float, Interval(gt=0)]
NonNegative = Annotated[float, Interval(ge=0)]
Probability = Annotated[float, Interval(ge=0, le=1)]  # [0, 1]
Fraction = Annotated[float, Interval(ge=0, lt=1)]  # [0, 1)
Seed = Annotated[int, Interval(ge=0, le=2**63 - 1)]

PathText = Annotated[str, PATH]
Resumable = Annotated[T, RESUMABLE]
Counted = Annotated[PositiveInt, COUNTED]

AnyLength = Annotated[Sequence[T], Length(0)]  # also an empty list
Pair = Annotated[Sequence[T], Length(2, 2)]

ImageSide = Annotated[int, Interval(ge=1, le=4096)]
ImageSize = ImageSide | Pair[ImageSide]  # a square's side, or [height, width]


def _is_color(value: object) -> bool:
    from PIL import ImageColor

    try:
        return isinstance(value, str) and bool(ImageColor.getrgb(value))
    except ValueError:
        return False


ColorName = Annotated[str, Where(_is_color, "a color's name, '#rrggbb'")]  # as Pillow knows them
Color = ColorName | Annotated[Sequence[Annotated[int, Interval(ge=0, le=255)]], Length(3, 3)]

Duration = Annotated[
    str,
    Where(lambda value: bool(re.fullmatch(r"\d+:\d\d:\d\d:\d\d", str(value))), "DD:HH:MM:SS"),
]

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
PictureName = Annotated[  # of a file that Pillow can write
    str,
    Where(
        lambda value: str(value).lower().endswith(PICTURES),
        f"a name that ends in one of {', '.join(PICTURES)}",
    ),
    PATH,
]
