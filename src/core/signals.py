"""Signals that ask a process to stop.

Before and after training, a command exits at once: see `exit_on_signals`. While a model trains,
`callbacks.checkpoint` handles the signals: it finishes the batch and saves. In both cases a second
signal within REPEAT seconds counts as the same request: Slurm sends SIGTERM twice, and a terminal's
Ctrl-C may arrive through more than one process.
"""

import atexit
import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from src import FIRST_PROCESS
from src.core.errors import Interrupted

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
REPEAT = 2.0  # seconds
WORKER_GRACE = 30  # seconds from SIGTERM to a worker's end
BLOCKED = 5.0  # seconds after which a process that is blocked outside of Python exits anyway
PR_SET_PDEATHSIG = 1  # Linux: prctl's request for a signal when the parent dies

_first_signal: float | None = None  # when the first one came; None: none came yet
_last_handled = 0.0  # when a handler last ran


def is_repeat() -> bool:
    """Return whether the signal being handled repeats one of the last REPEAT seconds."""
    global _first_signal, _last_handled
    now = _last_handled = time.monotonic()
    if _first_signal is not None and now - _first_signal < REPEAT:
        return True
    _first_signal = now
    return False


def install(handler: Callable[[int, Any], None]) -> dict[int, Any]:
    """Handle every stop signal with `handler`; return the handlers that it replaces.

    A signal that the parent process ignores stays ignored: `nohup` ignores SIGHUP.
    """
    global _first_signal
    _first_signal = None
    handled = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in handled}


def restore(handlers: dict[int, Any]) -> None:
    """Put back what `install` returned."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def exit_on_signals(clean_up: Callable[[str], str], is_rank: bool = False) -> Iterator[None]:
    """Exit with 128 + signal number as soon as a stop signal arrives.

    This raises no exception: in the middle of an import or of a library's callback it might be
    swallowed, or end as a traceback. Python runs a handler only when the main thread is between two
    of its instructions. While that is blocked in a library, such as in the wait for the other
    processes of a distributed run, a thread of ours exits after BLOCKED seconds.

    Args:
        clean_up: called first: signal name -> the line to print, empty for none.
        is_rank: this process is a rank other than 0. If rank 0 is its parent process, it forwards
            signals to rank 0 and, on Linux, gets SIGTERM when rank 0 dies.
    """
    owner, parent = os.getpid(), os.getppid()
    if not is_rank:
        os.environ[FIRST_PROCESS] = str(owner)
    is_child = is_rank and os.environ.get(FIRST_PROCESS) == str(parent)
    if is_child and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if is_rank and _is_orphan():
        os._exit(0)

    def handle(number: int, frame: Any) -> None:
        if os.getpid() == owner:  # not in a worker process that was just forked
            if is_repeat():
                return
            if is_child and os.getppid() == parent:
                os.kill(parent, number)
            if line := clean_up(signal.Signals(number).name):
                os.write(2, f"{line}\n".encode(errors="backslashreplace"))
        # Lightning sends SIGKILL to the first process when a child exits with an error code
        os._exit(0 if is_child else 128 + number)

    previous = install(handle)
    stop_watching = _watch(handle)
    try:
        yield
    finally:
        stop_watching()
        if _first_signal is None:
            restore(previous)
        # else the command ends: a repetition must not change its exit code while Python exits


def _is_orphan() -> bool:
    """Return whether rank 0 started this process, but is not there any more.

    The process would wait for it for half an hour. Slurm's tasks inherit the variable from the
    process that submitted them, on another machine perhaps.
    """
    first = os.environ.get(FIRST_PROCESS, "")
    if "SLURM_PROCID" in os.environ or not first.isdecimal() or int(first) == os.getppid():
        return False
    try:
        os.kill(int(first), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is another user's
        return False
    return False


def _watch(handle: Callable[[int, Any], None]) -> Callable[[], None]:
    """Start a thread that calls `handle` if the main thread does not for BLOCKED seconds.

    Nothing is done while another handler is installed. Returns a function that ends the thread.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        while received := os.read(reader, 1):  # the number of a signal; empty: the end
            start, number = time.monotonic(), received[0]
            while signal.getsignal(number) is handle and _last_handled < start - 1:
                if time.monotonic() > start + BLOCKED:
                    handle(number, None)
                time.sleep(0.05)
        os.close(reader)

    def stop() -> None:
        signal.set_wakeup_fd(before)
        os.close(writer)

    threading.Thread(target=watch, daemon=True, name="signals").start()
    return stop


@atexit.register
def _ignore_repetitions() -> None:
    """Ignore signals while Python takes its modules down, if one has come already.

    Python resets handlers to the system's own then, but leaves ignored signals ignored.
    """
    if _first_signal is not None:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


# a forked worker has its parent's pipe, and would announce its own signals there
os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


def raise_interrupted(number: int, frame: Any) -> None:
    """Handle a stop signal with an exception, so that temporary files are removed."""
    if not is_repeat():
        raise Interrupted(number, f"{signal.Signals(number).name}: stopped")


def ignore_in_worker(worker_id: int) -> None:
    """Ignore stop signals in a DataLoader worker: the main process decides when to stop.

    Ctrl-C reaches every process of the terminal, and Slurm signals every process of a job step.
    SIGTERM ends the worker later, after the main process has saved: when Python exits, it sends
    SIGTERM to its remaining workers and waits for them.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(WORKER_GRACE))
