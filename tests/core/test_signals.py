"""How a process ends: by a repeated stop signal, by one while it is blocked outside of Python."""

import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT

PROGRAM = """
import ctypes, os, signal, sys
from src.core import signals

def stop():  # as a model that trains does
    seen = []
    handlers = signals.install(lambda number, frame: signals.is_repeat() or seen.append(number))
    os.kill(os.getpid(), signal.SIGTERM)
    signals.restore(handlers)
    raise SystemExit(2)

libc = ctypes.CDLL(None)
libc.on_exit(libc.sleep, None)  # the last thing in the process: sleep as many seconds as its code
try:
    with signals.exit_on_signals(lambda name: "late"):
        stop()
finally:
    os.kill(os.getpid(), signal.SIGTERM)  # Slurm's second
    print("exits", flush=True)
"""


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["while Python exits", "after Python"])
def test_repeated_sigterm_keeps_the_exit_code(seconds):
    process = start(PROGRAM)
    assert process.stdout.readline() == "exits\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (2, "")


BLOCKED = """
import hashlib
from src.core import signals

with signals.exit_on_signals(lambda name: f"{name}: stopped"):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 10**9)  # minutes in C
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signal_ends_a_process_that_is_blocked_outside_of_python(name):
    process = start(BLOCKED)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(getattr(signal, name))
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + getattr(signal, name)
    assert stderr == f"{name}: stopped\n"


def start(program):
    command, pipe = [sys.executable, "-c", program], subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)
