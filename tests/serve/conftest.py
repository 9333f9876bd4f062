"""Small runs to serve."""

import pytest

from src.train import train
from tests.conftest import saved
from tests.contract.small import overrides, small_run


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
