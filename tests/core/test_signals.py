"""How a process ends: by a repeated stop signal, by one while it is blocked outside of Python."""

import signal
import subprocess
import sys
import time

import pytest

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


BLOCKED = """
import hashlib
from src.core import signals

with signals.exit_on_signals(lambda name: f"{name}: stopped"):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 10**9)  # minutes in C
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signal_ends_a_process_that_is_blocked_outside_of_python(name):
    process = subprocess.Popen(
        [sys.executable, "-c", BLOCKED],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(getattr(signal, name))
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + getattr(signal, name)
    assert stderr == f"{name}: stopped\n"
