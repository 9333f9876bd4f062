"""Check a value of a config by the annotation of the parameter that takes it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from src.config.annotations import NotPlain, Unknown
from src.core.errors import UserError
from src.core.types import COUNTED, Advice, Interval, Length, Mark, Predicate

LIMIT = 2.0**63  # integers of torch are below it; also excludes nan and inf
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


class WrongValue(UserError):
    """A value that its setting cannot have.

    Args:
        path: dotted name of the setting.
        value: the value.
        allowed: words for the values that are allowed.
        target: the class or function that the setting is a parameter of.
    """

    def __init__(self, path: str, value: Any, allowed: str, target: str = "") -> None:
        super().__init__(f"{path}={shown(value)}: must be {allowed}")
        self.path, self.value, self.allowed, self.target = path, value, allowed, target


def check_value(path: str, value: Any, kind: Any, target: str = "") -> None:
    """Raise WrongValue unless `value` is of the type `kind`."""
    allowed = allowed_values(value, kind)
    if allowed is None:
        return
    if isinstance(value, str) and NUMBER.fullmatch(value):
        numbers = [float(value), *([int(value)] if re.fullmatch(r"[-+]?\d+", value) else [])]
        if any(allowed_values(number, kind) is None for number in numbers):
            allowed += f"; '{value}' in quotes is text"
    raise WrongValue(path, value, allowed, target)


def allowed_values(value: Any, kind: Any) -> str | None:
    """Return None if `value` is of the type `kind`, else words for the allowed values."""
    outer, inner = get_origin(kind), get_args(kind)
    if kind is Any or kind is Unknown or kind is object:
        return None
    if outer is Annotated:
        return _annotated(value, inner[0], inner[1:])
    if outer in (Union, UnionType):
        return _union(value, inner)
    if outer is Literal:
        fits = any(value == choice and type(value) is type(choice) for choice in inner)
        return None if fits else f"one of {', '.join(map(shown, inner))}"
    if outer in (list, Sequence) or kind in (list, Sequence):
        return _members(value, inner[0] if inner else Any, Length(1))
    if outer is tuple:
        return _tuple(value, inner)
    if outer in (dict, Mapping) or kind in (dict, Mapping):
        return _mapping(value, inner[1] if inner else Any)
    return _plain(value, kind)


def _plain(value: Any, kind: Any) -> str | None:
    if kind in (int, float):
        return _number(value, kind, Interval())
    if kind is bool:
        return None if isinstance(value, bool) else "true or false"
    if kind is str:
        return None if isinstance(value, str) and value and "\0" not in value else "text"
    if kind in (None, type(None)):
        return None if value is None else "null"
    return "a mapping" if is_dataclass(kind) else "an object that no config can describe"


def _annotated(value: Any, kind: Any, marks: tuple[Any, ...]) -> str | None:
    if COUNTED in marks:
        rest = tuple(mark for mark in marks if mark != COUNTED)
        allowed = None if value is None else _annotated(value, kind, rest)
        return allowed and f"{allowed}, or null"
    for mark in marks:
        if isinstance(mark, Advice):
            allowed = _annotated(value, kind, tuple(other for other in marks if other != mark))
            return allowed and f"{allowed} ({mark.description})"
        if isinstance(mark, Interval):
            return _number(value, kind, mark)
        if isinstance(mark, Length):
            return _members(value, get_args(kind)[0], mark)
        if isinstance(mark, Predicate):
            fits = allowed_values(value, kind) is None and mark.func(value)
            words = mark.description
            return None if fits else words if isinstance(words, str) else words(value)
    return allowed_values(value, kind)


def _union(value: Any, kinds: tuple[Any, ...]) -> str | None:
    """Check a union. Members that no config can give, such as Tensor, are left out of the words."""
    null = [kind for kind in kinds if kind in (None, type(None))]
    others = [kind for kind in kinds if kind not in (None, type(None), NotPlain)]
    words = [allowed_values(value, kind) for kind in (*others, *null)]
    if None in words:
        return None
    return ", or ".join(dict.fromkeys(str(allowed) for allowed in words))


def _number(value: Any, kind: type, limits: Interval) -> str | None:
    ge, gt, le, lt = limits.ge, limits.gt, limits.le, limits.lt
    right = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    inside = (
        right
        and -LIMIT < value < LIMIT
        and (ge is None or value >= ge)
        and (gt is None or value > gt)
        and (le is None or value <= le)
        and (lt is None or value < lt)
    )
    if inside:
        return None
    return f"{'a whole number' if kind is int else 'a number'}{_range(limits)}"


def _range(limits: Interval) -> str:
    ge, gt, le, lt = limits.ge, limits.gt, limits.le, limits.lt
    low, high = ge if gt is None else gt, le if lt is None else lt
    if low is not None and high is not None:
        if gt is None and lt is None:
            return f" from {low} to {high}"
        return f" in {'[' if gt is None else '('}{low}, {high}{']' if lt is None else ')'}"
    if low is not None:
        return f" of at least {low}" if gt is None else f" above {low}"
    if high is not None:
        return f" of at most {high}" if lt is None else f" below {high}"
    return ""


def _members(value: Any, kind: Any, length: Length) -> str | None:
    most = length.max
    fits = isinstance(value, list | tuple) and length.min <= len(value) <= (most or len(value))
    if fits and all(allowed_values(member, kind) is None for member in value):
        return None
    members = _plural(allowed_values(object(), kind) or "any value")
    if length.min == most:
        return f"a list of {most} {members}"
    return f"a {'non-empty ' if length.min else ''}list of {members}"


def _plural(words: str) -> str:
    """Return the plural of words for allowed values: 'a number above 0' -> 'numbers above 0'."""
    if ", or " not in words and (number := re.fullmatch(r"a ((?:whole )?number)(.*)", words)):
        return f"{number[1]}s{number[2]}"
    return "texts" if words == "text" else f"members, each {words}"


def _tuple(value: Any, kinds: tuple[Any, ...]) -> str | None:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return _members(value, kinds[0], Length(1))
    fits = isinstance(value, list | tuple) and len(value) == len(kinds)
    if fits and all(
        allowed_values(member, kind) is None for member, kind in zip(value, kinds, strict=True)
    ):
        return None
    words = dict.fromkeys(allowed_values(object(), kind) or "any value" for kind in kinds)
    return f"a list of {len(kinds)} members: {'; '.join(words)}"


def _mapping(value: Any, kind: Any) -> str | None:
    if isinstance(value, dict) and all(
        allowed_values(member, kind) is None for member in value.values()
    ):
        return None
    return f"a mapping, each value {allowed_values(object(), kind) or 'any value'}"


def has_mark(kind: Any, mark: Mark) -> bool:
    """Return whether `mark` occurs anywhere in the type `kind`."""
    return kind == mark or any(has_mark(part, mark) for part in get_args(kind))


def shown(value: Any) -> str:
    """Return `value` as a user would write it, at most 60 characters."""
    if isinstance(value, dict):
        return "{...}"
    yaml = {"None": "null", "True": "true", "False": "false"}
    words = value if isinstance(value, str) else yaml.get(str(value), str(value))
    return words if len(words) <= 60 else f"{words[:57]}..."
