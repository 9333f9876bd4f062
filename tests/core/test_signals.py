"""How a process ends: by a repeated stop signal, by one while it is blocked outside of Python."""

import os
import signal
import subprocess
import sys
import time

import pytest

from src import FIRST_PROCESS
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signal_ends_a_process_that_is_blocked_outside_of_python(name):
    process = start(BLOCKED)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(getattr(signal, name))
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + getattr(signal, name)
    assert stderr == f"{name}: stopped\n"


RANK = """
import sys
from src.core import signals

with signals.exit_on_signals(lambda name: "", is_rank=True):
    sys.exit(7)
"""


def test_rank_whose_first_process_was_killed_while_it_started_ends_at_once():
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    process = start(RANK, **{FIRST_PROCESS: str(dead.pid)})
    assert (process.wait(timeout=60), process.communicate()) == (0, ("", ""))


@pytest.mark.parametrize("own", [{}, {FIRST_PROCESS: "parent"}, {"SLURM_PROCID": "1"}])
def test_rank_with_another_launcher_goes_on(own):
    """As one of torchrun; of Lightning, whose first process lives; and a task of Slurm."""
    if "SLURM_PROCID" in own:  # submitted by a process that has ended
        own = {**own, FIRST_PROCESS: str(2**22)}
    own = {name: value.replace("parent", str(os.getpid())) for name, value in own.items()}
    assert start(RANK, **own).wait(timeout=60) == 7


def start(program, **variables):
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
