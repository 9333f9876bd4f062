"""Atelier: train, watch and measure image models."""

import os
import signal
import sys

# `python -m src.COMMAND` imports this first. Until the command handles signals itself, Ctrl-C
# during its imports ends it without a traceback.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))
