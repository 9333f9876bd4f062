"""A service that several test files share."""

import signal

import pytest

from src.train import train
from tests.conftest import saved
from tests.contract.small import overrides, small_run
from tests.serve.processes import start


@pytest.fixture(scope="session")
def served(averaged_run):
    """Return the address of a service for the MLP in `averaged_run`."""
    process, address = start(averaged_run, "max_megapixels=1", "max_megabytes=1", "max_files=5")
    yield address
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert "Traceback" not in stderr


@pytest.fixture(scope="session")
def run_of(inputs, tmp_path_factory):
    """Return a function: a choice of model= -> the folder of a small run of it."""
    made = {}

    def run(model):
        if model not in made:
            quiet = ("callbacks=none", "trainer.max_epochs=1", "test=false")
            given = [word for word in overrides(model, inputs) if "callbacks." not in word]
            cfg = small_run(*given, *quiet)
            made[model] = saved(cfg, tmp_path_factory.mktemp(model) / "run")
            train(cfg, made[model])
        return made[model]

    return run
