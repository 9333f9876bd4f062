"""What is said to the person at the keyboard when something is wrong."""

import difflib
import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)


class UserError(Exception):
    """Something the user can mend: one line that says what, where, and what is allowed. Commands print it and exit with 2."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


class Incomplete(Exception):
    """Done, but for a part that the message tells; commands print it and exit with 1."""


class TrainingFailed(Exception):
    """Training cannot go on: one line that says why and what is kept. Commands print it and exit with 1."""


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


def user_error_line(error: Exception) -> str:
    """The line of an error of ours; a DataLoader's worker puts its traceback before it."""
    return str(error).rstrip().rpartition("src.core.errors.UserError: ")[2]


def first_line(error: BaseException) -> str:
    """The first line of what a library raised; its kind where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextmanager
def writing(what: str, advice: str = "") -> Iterator[None]:
    """An OSError in here becomes the line that `what`, a setting with its path, cannot be written, with `advice`."""
    try:
        yield
    except OSError as error:
        more = f"; {advice}" if advice else ""
        raise UserError(f"{what} cannot be written: {error.strerror or error}{more}") from error


class Refusal(NamedTuple):
    """What the machine refused to do.

    Attributes:
        reason: the path and the system's words for it.
        advice: what to do about it.
    """

    reason: str
    advice: str


ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "raise ulimit -f",
    errno.EROFS: "make it writable",
    errno.EACCES: "give yourself the permission",
    errno.EPERM: "give yourself the permission",
    errno.EMFILE: "raise ulimit -n, or lower data.workers",
    errno.ENFILE: "close some programs",
    errno.ENOENT: "bring it back",
}


def refusal(error: BaseException | None) -> Refusal | None:
    """Return what the machine refused, where that raised `error` or caused it; None where `error` is of another kind."""
    while error is not None:
        words = str(error)
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            if error.errno is not None:
                return _os_refusal(error)
            if "[Errno " in words:  # a worker's: its text is all that came through
                return Refusal(words.strip().rpartition("\n")[2], "try again")
        if isinstance(error, RuntimeError) and words.startswith("DataLoader worker (pid"):
            return Refusal(
                f"a process that reads images died ({words.rpartition(') ')[2].strip(' .')})",
                "give it more memory, or lower data.workers",
            )
        if isinstance(error, RuntimeError) and words == "Could not determine home directory.":
            return Refusal(
                "a path begins with ~, and there is no home folder",
                "set HOME, or write the whole path",
            )
        error = error.__cause__
    return None


def _os_refusal(error: OSError) -> Refusal:
    assert error.errno is not None
    words = (error.strerror or os.strerror(error.errno)).lower()
    path = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    advice = ADVICE.get(error.errno, "check the disk")
    if error.errno == errno.ENOSPC and error.filename and not _free_inodes(error.filename):
        words, advice = "no space left for more files (no inodes)", "remove some files"
    return Refusal(path + words, advice)


def _free_inodes(path: str | bytes) -> bool:
    """Return whether the file system of `path` takes another file; True where it does not count them."""
    parents = Path(os.fsdecode(path)).absolute().parents
    disk = os.statvfs(next(parent for parent in parents if parent.exists()))
    return disk.f_files == 0 or disk.f_favail > 0


_left_out: set[tuple[str, Path]] = set()


@contextmanager
def optional(outcome: str, folder: Path) -> Iterator[None]:
    """Go on without what the machine refuses in here; say so by `outcome` and the reason, once for each `folder`."""
    try:
        yield
    except Exception as error:
        refused = refusal(error)
        if refused is None:
            raise
        if (outcome, folder) not in _left_out:
            _left_out.add((outcome, folder))
            log.warning("%s (%s)", outcome, refused.reason)
