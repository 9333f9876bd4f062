"""Conditions on runs, and their order: where='model=dcgan,val/loss<0.3' sort=-val/acc."""

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from src.core.errors import UserError, near
from src.runs.info import RunInfo
from src.runs.seeds import Group

ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
CONDITION = re.compile(r"\s*([^<>=!\s]+)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*")


class Condition(NamedTuple):
    """A comparison of one value of a run.

    Attributes:
        key: a column, a metric, a group or a setting.
        operation: = or != with a text that may contain * and ?; <, <=, > or >= with a number.
        wanted: the text.
    """

    key: str
    operation: str
    wanted: str

    def holds(self, run: RunInfo) -> bool:
        """Return whether it is true for `run`; without a value, only != and =null are."""
        value = run.value(self.key)
        if self.key == "date" and value is not None and not set(self.wanted) & set("*?"):
            value = value[: len(self.wanted)]  # 2026-11-26 is a day, 2026-11 a month
        if self.operation in ("=", "!="):
            return self._equals(value) == (self.operation == "=")
        if value is None or isinstance(value, list | bool):
            return False
        if isinstance(value, str):  # a date
            return ORDERS[self.operation](value, self.wanted)
        return ORDERS[self.operation](value, float(self.wanted))

    def _equals(self, value: Any) -> bool:
        if value is None:
            return self.wanted == "null"
        if isinstance(value, list):
            return any(self._equals(one) for one in value)
        number = _number(self.wanted)
        if number is not None and isinstance(value, int | float) and not isinstance(value, bool):
            return value == number
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return fnmatchcase(text, self.wanted)


def conditions(text: str) -> list[Condition]:
    """Parse conditions with commas between them. Raises UserError if one is malformed."""
    found = []
    for part in text.split(","):
        match = CONDITION.fullmatch(part)
        if match is None:
            raise UserError(
                f"where={text}: '{part.strip()}' is not a condition; write KEY=VALUE, KEY!=VALUE, "
                "KEY<NUMBER, KEY<=NUMBER, KEY>NUMBER or KEY>=NUMBER, with commas between them"
            )
        found.append(Condition(*match.groups()))
    return found


def select(found: Sequence[RunInfo], text: str) -> list[RunInfo]:
    """Return the runs for which all conditions in `text` hold.

    Raises UserError for a key that no run has, and for a limit that is not a number.
    """
    wanted = conditions(text)
    expect_keys(found, [condition.key for condition in wanted], f"where={text}")
    for condition in wanted:
        is_date = condition.key == "date"
        if condition.operation in ORDERS and not is_date and _number(condition.wanted) is None:
            raise UserError(
                f"where={text}: '{condition.wanted}' is not a number, which "
                f"{condition.key}{condition.operation} needs"
            )
    return [run for run in found if all(condition.holds(run) for condition in wanted)]


def ordered(groups: Sequence[Group], sort: str) -> list[Group]:
    """Return the groups sorted by a key, `-KEY` in descending order; those without a value last."""
    key = sort.removeprefix("-")
    expect_keys([run for group in groups for run in group.members], [key], f"sort={sort}")
    if key == "date":
        values: list[Any] = [group.first.started for group in groups]
    else:
        values = [_comparable(_shown(group, key)) for group in groups]
    known = [
        (value, group) for value, group in zip(values, groups, strict=True) if value is not None
    ]
    numbers = all(isinstance(value, int | float) for value, _ in known)
    known.sort(key=lambda pair: pair[0] if numbers else str(pair[0]), reverse=sort != key)
    rest = [group for value, group in zip(values, groups, strict=True) if value is None]
    return [group for _, group in known] + rest


def _shown(group: Group, key: str) -> Any:
    """Return the value of a group: the mean of its runs, if they have numbers."""
    mean = group.estimate(key)
    return group.first.value(key) if mean is None else mean.mean


def expect_keys(found: Iterable[RunInfo], keys: Iterable[str], setting: str) -> None:
    """Raise UserError, naming `setting`, for the first of `keys` that no run has."""
    for key in keys:
        if any(run.value(key) is not None or key in run.fields for run in found):
            continue
        known: set[str] = set().union(*(run.keys() for run in found))
        if key not in known:
            hint = near(key, sorted(known)) or near(key.rpartition("/")[2], sorted(known))
            raise UserError(f"{setting}: no run has '{key}'{hint}")


def _comparable(value: Any) -> Any:
    if isinstance(value, float) and value != value:
        return None
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
