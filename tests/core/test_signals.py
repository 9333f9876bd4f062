"""A repeated stop signal does not change how a process ends."""

import subprocess
import sys

from tests.conftest import ROOT

PROGRAM = """
import os, signal, time
from src.core import signals

def stop():  # as a model that trains does
    seen = []
    handlers = signals.install(lambda number, frame: signals.is_repeat() or seen.append(number))
    os.kill(os.getpid(), signal.SIGTERM)
    signals.restore(handlers)
    raise SystemExit(128 + seen[0])

try:
    with signals.exit_on_signals(lambda name: "late"):
        stop()
finally:
    os.kill(os.getpid(), signal.SIGTERM)  # Slurm's second, while Python exits
"""


def test_second_sigterm_while_python_exits_keeps_the_exit_code():
    command = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 143, result.stderr
    assert result.stderr == ""
