"""What the tests share: small runs, in this process or as a user's command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from src import build
from src.config import check, compose

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
TINY = (
    "data.limit=100",
    "data.batch_size=32",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "callbacks=none",
    "logger=csv",
)
TINY_NETS = ("model=gan", "model.net.generator.hidden=[16]", "model.net.discriminator.hidden=[16]")

torch.set_num_threads(2)


@pytest.fixture
def config(tmp_path_factory):
    """overrides -> a checked config of src.train, as the command line would make it; with a cache of the test's own."""
    cache = tmp_path_factory.mktemp("cache")

    def make(*overrides: str) -> DictConfig:
        cfg = compose("train", [f"cache={cache}", *overrides])
        check(cfg)
        return cfg

    return make


def saved(cfg: DictConfig, folder: Path) -> Path:
    """A run's folder with its config, as a launched run has it."""
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
    return folder


def command(module: str, *args: str, cwd: Path = ROOT, **kwargs) -> subprocess.CompletedProcess[str]:
    """Run `python -m src.MODULE ARGS` as a user does, from the repository's root."""
    environment = {**os.environ, "PYTHONHASHSEED": "random", "OMP_NUM_THREADS": "2"}
    return subprocess.run(
        [sys.executable, "-m", f"src.{module}", *args],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        **kwargs,
    )


def wrong(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that a wrong command got; fails unless there is exactly one, without traceback, and exit code 2."""
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: "), result.stderr
    return lines[0]


def data_of(config, *overrides: str):
    """The data module that `overrides` make, its files read."""
    return build.data(config(*overrides))
