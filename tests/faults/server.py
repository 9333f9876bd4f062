"""A process that has imported everything, and forks a child for each `python -m src.train`.

The import takes longer than a tiny run. Each line on stdin is a request in JSON, each line
on stdout its reply:
{"start": ARGUMENTS, ...} -> {"pid": n}; {"wait": pid, "seconds": s} -> {"code": n}, null if it
still runs.
"""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from typing import Any

NEW_MOUNTS = 0x00020000  # Linux: CLONE_NEWNS


def serve() -> None:
    import src.augment
    import src.callbacks.final_metrics
    import src.engine.load
    import src.train  # noqa: F401

    replies = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            if (pid := os.fork()) == 0:
                sys.exit(_child(request))
            reply: dict[str, Any] = {"pid": pid}
        else:
            reply = {"code": _code(request["wait"], request["seconds"])}
        print(json.dumps(reply), file=replies, flush=True)


def _child(request: dict[str, Any]) -> int:
    """Be the process that the request describes; see `processes.start`."""
    from src import exit_on_interrupt
    from src.config import cli
    from src.sweep.sweeper import run_sweep
    from src.train import train

    os.setpgid(0, 0)
    for fd, path, mode in (
        (0, "/dev/null", "r"),
        (1, request["out"], "w"),
        (2, request["err"], "w"),
    ):
        with open(path, mode) as file:  # noqa: PTH123
            os.dup2(file.fileno(), fd)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if request["mounts"]:
        ctypes.CDLL(None).unshare(NEW_MOUNTS)
        for arguments in ["--make-rprivate", "/"], *request["mounts"]:
            subprocess.run(["mount", *arguments], check=True)
    for name, limit in request["limits"].items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    for name, value in request["patches"].items():
        module, _, attribute = name.rpartition(".")
        setattr(sys.modules[module], attribute, value)
    for name, value in request["environment"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.chdir(request["cwd"])
    if request["uid"]:
        os.setgroups([])
        os.setuid(request["uid"])
    heed_signals()
    exit_on_interrupt()  # as `python -m src.train` begins
    sys.argv = ["src.train", *request["start"]]
    return cli.launch("train", train, run_sweep, "")


def heed_signals() -> None:
    """Ignore no signal, whatever the process before did (nohup, a shell's background)."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_DFL)


def _code(pid: int, seconds: float) -> int | None:
    """Return how the child ended, -n for signal n; None where it still runs after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.002)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's is for the tests
    serve()
