"""A service that several test files share."""

import signal

import pytest

from tests.serve.processes import start


@pytest.fixture(scope="session")
def served(averaged_run):
    """Return the address of a service for the MLP in `averaged_run`."""
    process, address = start(averaged_run, "max_megapixels=1", "max_megabytes=1", "max_files=5")
    yield address
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert "Traceback" not in stderr
