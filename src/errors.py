"""What is said to the person at the keyboard when something is wrong."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something the user can mend: one line that says what, where, and what is allowed. Commands print it and exit with 2."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


class Incomplete(Exception):
    """Done, but for a part that the message tells; commands print it and exit with 1."""


class Interrupted(BaseException):
    """Training was stopped by a signal, after a checkpoint; commands exit with 128 + signum.

    No `Exception`: a sweep takes those for one failed job, and would go on with the next. The message is empty where the run's
    log has said it.
    """

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.signum = signum


def near(word: str, candidates: list[str]) -> str:
    """', did you mean X?' for the nearest of `candidates`, or nothing."""
    matches = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    return f"; did you mean {matches[0]}?" if matches else ""


def plain_line(error: Exception) -> str:
    """The line of an error of ours; a DataLoader's worker puts its traceback before it."""
    return str(error).rstrip().rpartition("src.errors.UserError: ")[2]


def first_line(error: BaseException) -> str:
    """The first line of what a library raised; its kind where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextmanager
def writing(what: str) -> Iterator[None]:
    """An OSError in here becomes the line that `what`, a setting with its path, cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{what} cannot be written: {error.strerror or error}") from error
