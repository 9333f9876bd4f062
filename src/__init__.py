"""Atelier: train, watch and measure image models."""

import os
import signal
import sys

from src.core import light_torchmetrics

FIRST_PROCESS = "ATELIER_FIRST_PROCESS"  # environment variable with the process ID of rank 0


def exit_on_interrupt() -> None:
    """Have Ctrl-C end the process without a traceback, with exit code 130.

    Rank 0 starts the other ranks of a distributed run, and gets the same Ctrl-C. They exit with 0:
    for another code Lightning sends SIGKILL to rank 0.
    """

    def handle(number: int, frame: object) -> None:
        is_child = os.environ.get(FIRST_PROCESS) == str(os.getppid())
        os._exit(0 if is_child else 128 + number)

    signal.signal(signal.SIGINT, handle)


# `python -m src.COMMAND` imports this first. A command handles signals itself from its start to its
# end; before and after, during imports and Python's own exit, this holds.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    exit_on_interrupt()

light_torchmetrics.install()  # before anything imports Lightning
