"""How torch's threads wait for each other."""

import os
import subprocess
import sys

import pytest

from src.core.waiting import wait_passively
from tests.conftest import ROOT


def test_threads_sleep_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    wait_passively()
    assert os.environ.pop("OMP_WAIT_POLICY") == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "active"


@pytest.mark.parametrize("module", ["src.serve.__main__", "src.bench.serve"])
def test_commands_that_set_it_have_not_imported_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0
