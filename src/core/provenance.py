"""Facts that are needed to repeat a run: its code, the installed packages and the machine.

Nothing here imports torch, and nothing raises: a fact that cannot be found is None or left out.
"""

import contextlib
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CODE = ("src", "conf", "pyproject.toml", "requirements.lock")  # files that can change a run
MAX_DIFF = 1_000_000  # characters that are kept of the changes since the commit
GIT_SECONDS = 20  # until a git that does not answer is stopped


def facts(root: Path = ROOT) -> dict[str, Any]:
    """Return the commit, the changes since it, the packages and the hardware.

    The call takes as long as a few git commands, so call it in a thread.

    Args:
        root: folder of the project. Outside a git repository, commit and diff are None.
    """
    commit = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None
    return {
        "commit": commit and commit.strip(),
        "diff": diff(root) if commit else None,
        "python": platform.python_version(),
        "packages": packages(),
        "hardware": hardware(),
    }


def diff(root: Path) -> str | None:
    """Return the changes since the commit, for `git apply`; empty if there are none.

    New files that git does not ignore are part of it. None: git failed, or they are too long.
    """
    changed = _git(root, "diff", "HEAD", "--binary", "--", *CODE)
    new = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *CODE)
    if changed is None or new is None:
        return None
    text = changed + "".join(_new_file(root, name) for name in new.split("\0") if name)
    return text if len(text) <= MAX_DIFF else None


def _new_file(root: Path, name: str) -> str:
    """Return a diff that makes the text file `name`; empty for a file that is not text."""
    try:
        text = (root / name).read_bytes().decode()
    except (OSError, ValueError):
        return ""
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)  # splitlines would split at a form feed, too
    header = f"diff --git a/{name} b/{name}\nnew file mode 100644\n"
    if not lines:
        return header
    if not lines[-1].endswith("\n"):
        lines[-1] += "\n\\ No newline at end of file\n"
    header += f"--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,{len(lines)} @@\n"
    return header + "".join(f"+{line}" for line in lines)


def _git(root: Path, *arguments: str) -> str | None:
    """Return the output of a git command; None if it fails."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            check=True,
            timeout=GIT_SECONDS,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # lock no index
        ).stdout.decode(errors="surrogateescape")
    return None


def packages() -> dict[str, str]:
    """Return the version of each installed package, from the names of the .dist-info folders."""
    found: dict[str, str] = {}
    for folder in reversed(sys.path):  # earlier entries win
        with contextlib.suppress(OSError):
            for path in Path(folder or ".").iterdir():
                if match := re.fullmatch(r"(.+?)-([^-]+)\.dist-info", path.name):
                    found[match[1].lower().replace("_", "-")] = match[2]
    return dict(sorted(found.items()))


def hardware() -> dict[str, Any]:
    """Return host, system, processor, usable cores, memory in GiB and NVIDIA's GPUs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info: dict[str, Any] = {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _first_match(Path("/proc/cpuinfo"), r"model name\s*: (.+)")
        or platform.machine(),
        "cores": cores,
    }
    with contextlib.suppress(OSError, ValueError, AttributeError):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        info["memory_gib"] = round(memory / 2**30, 1)
    cards = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    if names := [_first_match(path, r"Model:\s*(.+)") for path in cards]:
        info["gpus"] = names
    return info


def _first_match(path: Path, pattern: str) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        found = re.search(pattern, path.read_text(encoding="utf-8"))
        return found[1].strip() if found else None
    return None
