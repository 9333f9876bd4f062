"""What the property tests share: a few draws that are the same every time for `make test`, all of
them in the slow tests."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from src.core.errors import Incomplete, UserError

FEW: set[int] = set()  # counts of the short profile


def draws(few: int, all_of_them: int) -> pytest.MarkDecorator:
    """Run a test with `count` = `few` draws, always the same, and in the slow tests with others,
    `all_of_them`."""
    FEW.add(few)
    slow = pytest.param(all_of_them, marks=pytest.mark.slow)
    return pytest.mark.parametrize("count", [few, slow])


def holds(count: int, strategy: SearchStrategy, claim: Callable[[Any], None]) -> None:
    """Check `claim` on `count` draws of `strategy`; what it fails on is shrunk and shown."""
    profile = settings(
        max_examples=count,
        derandomize=count in FEW,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    profile(given(strategy)(claim))()


def refused(action: Callable[[], Any]) -> str | None:
    """The line that `action` ends in, None where it ends well; an error that is not for the user is
    raised."""
    try:
        action()
    except (UserError, Incomplete) as error:
        line = str(error)
    else:
        return None
    assert line.strip()
    assert len(line.splitlines()) == 1, line
    return line
