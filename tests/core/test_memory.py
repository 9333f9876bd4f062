"""The memory of the machine, limits of control groups, and returning memory to the system."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from src.core.memory import total_memory
from tests.conftest import ROOT

MIB = 2**20


def machine(root, total, groups=""):
    """Write the files of a machine with `total` MiB whose process is in `groups`."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(
        f"MemTotal:  {total * 1024} kB\nMemFree:  7 kB\nMemAvailable:   9 kB\n"
    )
    (root / "proc/self/cgroup").write_text(groups)


def group(folder, file, limit):
    """Write a control group that is limited to `limit` MiB, or to a text."""
    folder.mkdir(parents=True, exist_ok=True)
    text = str(limit * MIB) if isinstance(limit, int) else limit
    (folder / file).write_text(f"{text}\n")


def test_without_limits_it_is_the_machines_memory(tmp_path):
    machine(tmp_path, 800)
    assert total_memory(tmp_path) == 800 * MIB


@pytest.mark.parametrize(
    ("line", "top", "file"),
    [
        ("4:memory:/job/step\n", "memory", "memory.limit_in_bytes"),
        ("0::/job/step\n", "", "memory.max"),
    ],
    ids=["version 1", "version 2"],
)
def test_the_smallest_limit_of_all_groups_counts(tmp_path, line, top, file):
    machine(tmp_path, 800, "9:name=systemd:/\n" + line)
    top = tmp_path / "sys/fs/cgroup" / top
    group(top / "job/step", file, 700)
    assert total_memory(tmp_path) == 700 * MIB
    group(top / "job", file, 500)  # the group around it, with other processes
    assert total_memory(tmp_path) == 500 * MIB
    group(top, file, 400)
    assert total_memory(tmp_path) == 400 * MIB
    for folder in (top, top / "job", top / "job/step"):
        group(folder, file, "max")  # no limit, as version 2 writes it
    assert total_memory(tmp_path) == 800 * MIB


def test_in_a_container_its_own_group_is_mounted_at_the_top(tmp_path):
    machine(tmp_path, 800, "0::/../../a/group/of/the/host\n")
    group(tmp_path / "sys/fs/cgroup", "memory.max", 300)
    assert total_memory(tmp_path) == 300 * MIB


def test_without_linux_it_is_unknown(tmp_path):
    assert total_memory(tmp_path) is None


def test_this_machine_has_some():
    found = total_memory()
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


MEASURE = """
import resource, sys
from pathlib import Path
import torch
from src.core.memory import keep_memory
from src.data.decode import Fit
from src.data.sets.files import FileSet

keep_memory()
paths = sorted(Path(sys.argv[1]).glob("*.jpg"))
images = FileSet(paths, torch.zeros(len(paths), dtype=torch.long), Fit((224, 224), 3))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images.channel_sums([torch.arange(len(paths))] * int(sys.argv[2]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_mean_and_std_of_many_streamed_images_take_no_more_memory_than_of_few(tmp_path):
    """Results that stayed between the images kept their memory from being used again."""
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    for k in range(8):
        Image.fromarray(pixels).save(tmp_path / f"{k}.jpg")
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    few, many = (
        int(
            subprocess.run(
                [*command, n], check=True, cwd=ROOT, capture_output=True, text=True
            ).stdout
        )
        for n in ("80", "240")
    )
    assert many < few + 300, "MiB"


def test_the_peak_of_a_process_is_its_own_and_not_that_of_its_parent():
    child = "from src.core.memory import peak_resident_mb; print(peak_resident_mb())"
    parent = (
        "import subprocess, sys; large = bytes(range(256)) * 2**20; "
        f"subprocess.run([sys.executable, '-c', {child!r}])"
    )
    printed = subprocess.check_output([sys.executable, "-c", parent], cwd=ROOT)
    assert 5 < float(printed) < 128
