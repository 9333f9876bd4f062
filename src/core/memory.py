"""The memory that this process may use, and whether it gives back what it no longer needs."""

import ctypes
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")  # below it lie proc/ and sys/, the files in which Linux reports memory
TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of glibc's mallopt


def keep_memory() -> None:
    """Make the C library keep memory that tensors free.

    Otherwise it returns the memory to the kernel, which must clear every page for the next batch.
    """
    # return nothing to the kernel, not even large blocks
    _mallopt({TRIM_THRESHOLD: -1, MMAP_MAX: 0})


def return_memory() -> None:
    """Undo `keep_memory`.

    A process that decodes images allocates blocks of many sizes. It would keep hundreds of MiB.
    """
    _mallopt({TRIM_THRESHOLD: 128 * 1024, MMAP_MAX: 65536})  # the defaults


def _mallopt(parameters: dict[int, int]) -> None:
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # glibc
        for parameter, value in parameters.items():
            libc.mallopt(parameter, value)


def total_memory(root: Path = ROOT) -> int | None:
    """Return the bytes that this process may use; None if unknown.

    It is the smallest of the machine's memory and the limits of the control groups of the process
    (version 1 or 2), in which containers and Slurm limit memory. Only Linux reports these values.
    What is free at the moment plays no part, so that a resumed run finds the same value.
    """
    found = list(_limits_of_groups(root))
    with suppress(OSError):
        lines = (root / "proc/meminfo").read_text()
        found += [1024 * int(kib) for kib in re.findall(r"^MemTotal: +(\d+) kB", lines, re.M)]
    return min(found) if found else None


def _limits_of_groups(root: Path) -> Iterator[int]:
    """Yield the limit in bytes of each control group of this process that has one."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers == "":  # version 2
                top, limit = root / "sys/fs/cgroup", "memory.max"
            elif controllers == "memory":
                top, limit = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
            else:
                continue
            group = top / name.lstrip("/")
            for folder in (group, *group.parents):
                # a group that is missing here is mounted at `top`, as in a container
                with suppress(OSError, ValueError):  # no limit: the file is missing or says max
                    yield int((folder / limit).read_text())
                if folder == top:
                    break


def peak_resident_mb() -> float:
    """Return the peak memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would begin with the peak of the process that started this one
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) / 1024
    return _maxrss_mb(resource.RUSAGE_SELF)


def largest_child_mb() -> float:
    """Return the peak memory in MiB of the largest process that this one started, once it ended."""
    return _maxrss_mb(resource.RUSAGE_CHILDREN)


def _maxrss_mb(who: int) -> float:
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB on Linux
    return resource.getrusage(who).ru_maxrss * unit / 2**20
