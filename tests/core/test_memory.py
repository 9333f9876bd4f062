"""Does src.core.memory read memory and the limits of control groups, and give memory back?"""

import subprocess
import sys

import pytest

from src.core.memory import available_memory
from tests.conftest import ROOT

MIB = 2**20
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("memory.max", "memory.current", "inactive_file")


def machine(root, available, groups=""):
    """Write the files of a machine with `available` MiB whose process is in `groups`."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(
        f"MemTotal: 99999999 kB\nMemFree:  7 kB\nMemAvailable:   {available * 1024} kB\n"
    )
    (root / "proc/self/cgroup").write_text(groups)


def group(folder, files, limit, used, caches):
    """Write a control group that uses `used` MiB, `caches` of them file caches."""
    folder.mkdir(parents=True, exist_ok=True)
    text = str(limit * MIB) if isinstance(limit, int) else limit
    (folder / files[0]).write_text(f"{text}\n")
    (folder / files[1]).write_text(f"{used * MIB}\n")
    (folder / "memory.stat").write_text(f"cache 5\n{files[2]} {caches * MIB}\nactive_file 3\n")


def test_without_limits_it_is_the_machines_available_memory(tmp_path):
    machine(tmp_path, 800)
    assert available_memory(tmp_path) == 800 * MIB


@pytest.mark.parametrize(
    ("line", "top", "files"),
    [("4:memory:/job/step\n", "memory", V1), ("0::/job/step\n", "", V2)],
    ids=["version 1", "version 2"],
)
def test_the_smallest_rest_of_all_groups_counts(tmp_path, line, top, files):
    machine(tmp_path, 800, "9:name=systemd:/\n" + line)
    top = tmp_path / "sys/fs/cgroup" / top
    group(top / "job/step", files, 700, 50, 20)
    assert available_memory(tmp_path) == 670 * MIB
    group(top / "job", files, 500, 250, 30)  # the group around it, with other processes
    assert available_memory(tmp_path) == 280 * MIB
    group(top, files, 400, 500, 0)  # over its limit
    assert available_memory(tmp_path) == 0
    for folder in (top, top / "job", top / "job/step"):
        group(folder, files, "max", 50, 20)  # no limit, as version 2 writes it
    assert available_memory(tmp_path) == 800 * MIB


def test_in_a_container_its_own_group_is_mounted_at_the_top(tmp_path):
    machine(tmp_path, 800, "0::/../../a/group/of/the/host\n")
    group(tmp_path / "sys/fs/cgroup", V2, 300, 100, 0)
    assert available_memory(tmp_path) == 200 * MIB


def test_without_linux_it_is_unknown(tmp_path):
    assert available_memory(tmp_path) is None


def test_this_machine_has_some():
    found = available_memory()
    assert found is None or 2**20 < found < 2**50


@pytest.mark.skipif(sys.platform != "linux", reason="Linux reports the memory of a process")
def test_a_worker_returns_memory_that_the_main_process_keeps():
    program = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from src.core import memory\n"
        "memory.keep_memory()\n"
        "if sys.argv[1] == 'worker': memory.return_memory()\n"
        "blocks = [bytes(10**6) + b'x' for _ in range(200)]\n"
        "del blocks\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(re.search(r'VmRSS:\\s+(\\d+)', status)[1])\n"
    )
    main, worker = (
        int(subprocess.check_output([sys.executable, "-c", program, role], cwd=ROOT))
        for role in ("main", "worker")
    )
    assert main - worker > 100 * 1024  # KiB
