"""Errors as a user sees them: one line that says what is wrong and what to do."""

import difflib
import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)


class UserError(Exception):
    """An error that the user can fix. Commands print its message and exit with 2.

    The message is one line: what was given, where, and what is allowed.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


class Incomplete(Exception):
    """The command finished, but some items failed. Commands print the message and exit with 1."""


class TrainingFailed(Exception):
    """Training cannot continue. Commands print why, and what was saved, and exit with 1."""


class Interrupted(BaseException):
    """A signal stopped training, after a checkpoint. Commands exit with 128 + signum.

    It is not an `Exception`, because a sweep would count that as one failed job and start the next.
    The message is empty if it is already in the run's log.
    """

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.signum = signum


def near(word: str, candidates: list[str]) -> str:
    """Return '; did you mean X?' for the candidate nearest to `word`, or ''."""
    matches = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    return f"; did you mean {matches[0]}?" if matches else ""


def user_error_line(error: Exception) -> str:
    """Return the message of a UserError without the traceback that a DataLoader worker prepends."""
    return str(error).rstrip().rpartition("src.core.errors.UserError: ")[2]


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error message, or its class name if it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextmanager
def writing(what: str, advice: str = "") -> Iterator[None]:
    """Turn an OSError in the block into a UserError.

    Args:
        what: the setting with its path, as in 'out=DIR'.
        advice: what to do about it.
    """
    try:
        yield
    except OSError as error:
        more = f"; {advice}" if advice else ""
        raise UserError(f"{what} cannot be written: {error.strerror or error}{more}") from error


class OSFailure(NamedTuple):
    """An operation that failed in the operating system.

    Attributes:
        reason: the path, and the system's message.
        advice: what to do about it.
    """

    reason: str
    advice: str


ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "raise ulimit -f",
    errno.EROFS: "make it writable",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EMFILE: "raise ulimit -n, or lower data.workers",
    errno.ENFILE: "close some programs",
    errno.ENOENT: "restore it",
}


# PyTorch's own error on a GPU, and the words of a RuntimeError on a CPU
NO_MEMORY = re.compile(r"^OutOfMemoryError:|^RuntimeError: .*DefaultCPUAllocator: ")


def os_failure(error: BaseException | None) -> OSFailure | None:
    """Return the failure of the system that raised or caused `error`; None for other errors."""
    while error is not None:
        words = str(error)
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            if error.errno is not None:
                return _describe(error)
            if "[Errno " in words:  # raised in a worker: only its text arrives here
                return OSFailure(words.strip().rpartition("\n")[2], "try again")
        if isinstance(error, MemoryError) or NO_MEMORY.search(f"{type(error).__name__}: {words}"):
            size = re.search(r"allocate ([\d.]+ \w+)", words)
            needed = f"{size[1]} more are needed; " if size else ""
            return OSFailure(
                f"out of memory ({needed}smaller batches or images need less)", "free some memory"
            )
        if isinstance(error, RuntimeError) and words.startswith("DataLoader worker (pid"):
            return OSFailure(
                f"a process that reads images died ({words.rpartition(') ')[2].strip(' .')})",
                "give it more memory, or lower data.workers",
            )
        if isinstance(error, RuntimeError) and words == "Could not determine home directory.":
            return OSFailure(
                "a path starts with ~, but there is no home folder",
                "set HOME, or write the full path",
            )
        error = error.__cause__
    return None


def _describe(error: OSError) -> OSFailure:
    assert error.errno is not None
    words = (error.strerror or os.strerror(error.errno)).lower()
    path = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    advice = ADVICE.get(error.errno, "check the disk")
    if error.errno == errno.ENOSPC and error.filename and not _free_inodes(error.filename):
        words, advice = "no space left for more files (no inodes)", "remove some files"
    return OSFailure(path + words, advice)


def _free_inodes(path: str | bytes) -> bool:
    """Return whether the file system of `path` can take another file.

    True if it does not count them.
    """
    parents = Path(os.fsdecode(path)).absolute().parents
    disk = os.statvfs(next(parent for parent in parents if parent.exists()))
    return disk.f_files == 0 or disk.f_favail > 0


_left_out: set[tuple[str, Path]] = set()


@contextmanager
def optional(outcome: str, folder: Path) -> Iterator[None]:
    """Continue without an output that the system refuses to write.

    Logs `outcome` and the reason, once per folder.
    """
    try:
        yield
    except Exception as error:  # logged if the system failed, else raised again
        failure = os_failure(error)
        if failure is None:
            raise
        if (outcome, folder) not in _left_out:
            _left_out.add((outcome, folder))
            log.warning("%s (%s)", outcome, failure.reason)
