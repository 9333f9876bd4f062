"""Starting runs as processes of their own, and stopping them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.faults.server import heed_signals

ROOT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
PATIENCE = 240.0  # seconds until a process that does not end counts as hanging


class Run:
    """A process that trains.

    Attributes:
        pid: of the process, the leader of its process group.
        out, err: files with what it prints.
    """

    def __init__(self, pid: int, out: Path, err: Path, code: Callable[[float], int | None]) -> None:
        self.pid, self.out, self.err, self._wait = pid, out, err, code
        self.code: int | None = None

    def poll(self, seconds: float = 0.0) -> int | None:
        """Return the exit code, -n after signal n; None if it still runs after `seconds`."""
        if self.code is None:
            self.code = self._wait(seconds)
        return self.code

    def wait(self, seconds: float = PATIENCE) -> int:
        """Return the exit code. Kill the process and fail if it has not ended after `seconds`."""
        if self.poll(seconds) is None:
            self.kill(signal.SIGKILL, group=True)
            raise AssertionError(f"hangs: {self.said}")
        return self.code

    def kill(self, signum: int, group: bool = False) -> None:
        """Send a signal to the process, or to all of its group."""
        if self.poll() is None:
            (os.killpg if group else os.kill)(self.pid, signum)

    def stand_still(self) -> None:
        """Stop the process where it is, until `go_on`."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @property
    def said(self) -> str:
        """Its output on stderr."""
        return self.err.read_text(errors="replace")

    def until(self, condition: Callable[[], Any]) -> bool:
        """Wait until `condition()`; return False where the process ended before."""
        start = time.monotonic()
        while not condition():
            if self.poll() is not None:
                return bool(condition())
            if time.monotonic() - start > PATIENCE:
                self.kill(signal.SIGKILL, group=True)
                raise AssertionError(f"hangs: {self.said}")
            time.sleep(0.0005)
        return True


class Server:
    """Starts `python -m src.train` without its imports; see `server`."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server"],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self,
        arguments: Sequence[str],
        folder: Path,
        *,
        cwd: Path = ROOT,
        mounts: Sequence[Sequence[str]] = (),
        uid: int = 0,
        limits: dict[str, int] | None = None,
        environment: dict[str, str | None] | None = None,
        patches: dict[str, Any] | None = None,
    ) -> Run:
        """Start `python -m src.train ARGUMENTS`.

        Args:
            folder: where the files with what it prints are put.
            mounts: arguments of `mount`, for file systems that the process alone sees.
            uid: user that it runs as, 0 for this one.
            limits: of resources, by their names in `resource`.
            environment: variables to set, or to remove by None.
            patches: values to set, by module and name.
        """
        out, err = _outputs(folder)
        pid = self._ask(
            start=[*arguments],
            out=str(out),
            err=str(err),
            cwd=str(cwd),
            mounts=mounts,
            uid=uid,
            limits=limits or {},
            environment=environment or {},
            patches=patches or {},
        )["pid"]
        return Run(pid, out, err, lambda seconds: self._ask(wait=pid, seconds=seconds)["code"])

    def _ask(self, **request: Any) -> Any:
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def start_plain(arguments: Sequence[str], folder: Path, module: str = "train") -> Run:
    """Start `python -m src.MODULE ARGUMENTS` as a user does."""
    out, err = _outputs(folder)
    with out.open("w") as stdout, err.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", f"src.{module}", *arguments],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=heed_signals,
        )

    def code(seconds: float) -> int | None:
        try:
            return process.wait(seconds) if seconds else process.poll()
        except subprocess.TimeoutExpired:
            return None

    return Run(process.pid, out, err, code)


def _outputs(folder: Path) -> tuple[Path, Path]:
    """Make files in `folder` for what a process prints to stdout and stderr."""
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("*.err")))
    out, err = (folder / f"{number:03d}.{kind}" for kind in ("out", "err"))
    for path in (out, err):
        path.touch(exist_ok=False)
    return out, err
