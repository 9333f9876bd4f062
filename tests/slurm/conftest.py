"""The Slurm cluster that the tests share."""

import pytest

from tests.slurm.cluster import IS_HERE, NOT_HERE, Cluster


@pytest.fixture(scope="package")
def cluster(tmp_path_factory):
    if not IS_HERE:
        pytest.skip(NOT_HERE)
    running = Cluster(tmp_path_factory.mktemp("slurm"))
    yield running
    running.stop()
