"""run.json in the folder of a run: its settings, and what is needed to repeat each session.

A session is one process that trains the run: the first one, and one for each resume. Its state is
`running` until it ends. A process that is killed cannot write another state, but the kernel
releases its lock; so `running` without a lock means `interrupted`.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from src.core import provenance, runs, slurm
from src.core.errors import (
    Incomplete,
    Interrupted,
    TrainingFailed,
    UserError,
    first_line,
    user_error_line,
)
from src.core.files import write_atomically

NAME = "run.json"
RUNNING, FINISHED, INTERRUPTED, FAILED = "running", "finished", "interrupted", "failed"
PRUNED = "pruned"  # a sweep ended the run early, because others were better
STATES = (RUNNING, FINISHED, INTERRUPTED, FAILED, PRUNED)
SPARE = 1024  # bytes that a running session reserves, to write its end on a full disk
MAX_ERROR = 500  # characters of an error that are kept

_mutex = threading.Lock()  # a thread adds facts while the run starts


@contextlib.contextmanager
def recorded(
    folder: Path, settings: dict[str, Any], choices: dict[str, str], command: str
) -> Iterator[None]:
    """Record the session that the block runs in the run.json of `folder`, which is locked.

    Facts that need git are added by a thread, so that they do not delay the start.

    Args:
        settings: the resolved config, as plain values.
        choices: the choice of each config group; empty: those of the earlier sessions.
        command: the command line.
    """
    if not runs.is_first_process():
        yield
        return
    path, before, saved = folder / NAME, read(folder), runs.time_of_checkpoint(folder)
    session: dict[str, Any] = {
        "state": RUNNING,
        "started": datetime.now().astimezone().isoformat(timespec="milliseconds"),
        "command": command,
        "directory": str(Path.cwd()),
    }
    if job := slurm.job_id():
        session["slurm_job"] = job
    record = {
        "settings": settings,
        "choices": choices or before.get("choices", {}),
        "sessions": [*before.get("sessions", []), session],
    }
    _write(path, record)
    thread = threading.Thread(target=_add_facts, args=(folder,), daemon=True, name="run.json")
    thread.start()
    start, end = time.perf_counter(), {"state": FAILED}
    try:
        yield
        sessions = read(folder).get("sessions", [{}])
        end = {"state": PRUNED if sessions[-1].get("state") == PRUNED else FINISHED}
    except (Interrupted, KeyboardInterrupt):
        end = {"state": INTERRUPTED}
        raise
    except UserError as error:
        end["error"] = _message(error)
        if before and runs.time_of_checkpoint(folder) == saved:  # refused: the run is as it was
            thread.join(provenance.GIT_SECONDS)
            with contextlib.suppress(OSError), _mutex:
                _write(path, before)
            end = {}
        raise
    except BaseException as error:  # recorded, then raised again
        end["error"] = _message(error)
        raise
    finally:
        thread.join(provenance.GIT_SECONDS)
        if end:
            update(folder, **end, seconds=round(time.perf_counter() - start, 3))


def update(folder: Path, **values: Any) -> None:
    """Add `values` to the newest session of a run. A file that cannot be written stays as it is."""
    with _mutex, contextlib.suppress(OSError):
        record = read(folder)
        if runs.is_first_process() and record.get("sessions"):
            record["sessions"][-1] |= values
            _write(folder / NAME, record)


def read(folder: Path) -> dict[str, Any]:
    """Return the content of a run's run.json; {} if it is missing or damaged."""
    try:
        record = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    sessions = record.get("sessions") if isinstance(record, dict) else None
    is_valid = isinstance(sessions, list) and all(isinstance(one, dict) for one in sessions)
    return record if is_valid and sessions else {}


def state_of(folder: Path, record: dict[str, Any]) -> str:
    """Return the state of the run in `folder`, one of STATES.

    Args:
        record: its run.json; {}: a run without one, such as the final one of `src.nanonet`.
    """
    sessions = record.get("sessions", [])
    state = sessions[-1].get("state") if sessions else None
    if state in STATES and state != RUNNING:
        return str(state)
    if runs.is_locked(folder):
        return RUNNING
    is_finished = state is None and (folder / "metrics.json").is_file()
    return FINISHED if is_finished else INTERRUPTED


def _add_facts(folder: Path) -> None:
    update(folder, **provenance.facts())


def _message(error: BaseException) -> str:
    """Return the message of one of our errors; of another one, its class and first line."""
    if isinstance(error, UserError | TrainingFailed | Incomplete):
        return user_error_line(error)[:MAX_ERROR]
    name, line = type(error).__name__, first_line(error)
    return (name if line == name else f"{name}: {line}")[:MAX_ERROR]


def _write(path: Path, record: dict[str, Any]) -> None:
    """Write run.json. On a full disk, write over the old file, which is large enough."""
    text = json.dumps(record, indent=1, default=str) + "\n"
    content = text.encode(errors="backslashreplace")
    if record["sessions"][-1]["state"] == RUNNING:
        content += b" " * SPARE
    try:
        write_atomically(path, lambda temporary: temporary.write_bytes(content))
    except OSError:
        size = path.stat().st_size if path.exists() else 0
        if len(content) > size:
            raise
        with path.open("rb+") as file:
            file.write(content.ljust(size))
