"""Atelier: train, watch and measure image models."""

import os
import signal
import sys


def exit_on_interrupt() -> None:
    """Have Ctrl-C end the process without a traceback, with exit code 130."""
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))


# `python -m src.COMMAND` imports this first. A command handles signals itself from its start to its
# end; before and after, during imports and Python's own exit, this holds.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    exit_on_interrupt()
