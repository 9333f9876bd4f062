"""Shared by the fault tests: a server that starts runs, and uninterrupted runs to compare with."""

import pytest

from tests.faults.disks import ROOT_ONLY, Disk, can_mount
from tests.faults.kills import Kills
from tests.faults.processes import Server


@pytest.fixture(scope="session")
def kills(tmp_path_factory):
    server = Server()
    yield Kills(tmp_path_factory.mktemp("kills"), server)
    server.close()


@pytest.fixture(scope="session")
def mountable(tmp_path_factory):
    return can_mount(tmp_path_factory.mktemp("mountable"))


@pytest.fixture
def disk(tmp_path, mountable):
    """Options -> a small file system that is gone when the test ends."""
    if not mountable:
        pytest.skip(ROOT_ONLY)
    disks = []

    def make(options, path=None):
        disks.append(Disk(path or tmp_path / f"disk{len(disks)}", options))
        return disks[-1]

    yield make
    for each in reversed(disks):
        each.unmount()
