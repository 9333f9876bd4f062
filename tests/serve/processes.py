"""The service as a process, as a user starts it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def start(run: Path, *settings: str) -> tuple[subprocess.Popen[str], str]:
    """Start the command on a free port; return the process and the service's address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "src.serve", f"run={run}", "port=0", *settings],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    assert found, (line, process.communicate(timeout=60))
    return process, found[0]
