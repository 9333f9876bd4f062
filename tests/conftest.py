"""Shared by all tests: small runs, in this process or as a user's command."""

import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from src.config.checks import check
from src.config.cli import quoted
from src.config.compose import compose
from src.core import runs
from src.engine import build
from src.train import train
from tests.contract.small import IMAGES, RUN, small_run

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
ON_CPU = ("trainer.accelerator=cpu", "trainer.precision=32-true", "callbacks=none", "logger=csv")
TINY = ("data.limit=100", "data.batch_size=32", *ON_CPU)
TINY_NETS = (
    "model=gan",
    "model.net.generator.hidden_dims=[16]",
    "model.net.discriminator.hidden_dims=[16]",
)

WINTER_SMALL = (
    "model=cyclegan",
    "model.generator.base_channels=4",
    "model.generator.n_blocks=1",
    "model.discriminator.base_channels=4",
)
WINTER_NET = (
    *TINY,
    *WINTER_SMALL,
    "data.size=16",
    "data.limit=null",
    "data.cache=null",
    "test=false",
)
# 32 images of each domain, batch 8: four batches an epoch
WINTER_RUN = (*WINTER_NET, "data=winter", "data.batch_size=8", "data.val_size=4",
              "data.test_size=4", "trainer.max_epochs=3",
       "trainer.log_every_n_steps=1", "checkpoint.every_n_batches=null",
       "model.pool_size=20")  # fmt: skip

THREADS = (
    1 if "PYTEST_XDIST_WORKER" in os.environ else 2
)  # tests that run side by side have a core each
torch.set_num_threads(THREADS)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background jobs begin so
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def log_of_its_own():
    """Remove the log handlers of a test's runs: their stderr is pytest's, and is closed after the
    test."""
    yield
    for handler in logging.getLogger("src").handlers[:]:
        logging.getLogger("src").removeHandler(handler)
        handler.close()


@pytest.fixture
def log_lines():
    """The lines that the project logs during a test."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    log = logging.getLogger("src")
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    yield lines
    log.removeHandler(handler)
    log.setLevel(level)


@pytest.fixture
def config(tmp_path_factory):
    """Return a function: overrides -> a checked config of src.train, with the test's own cache."""
    cache = tmp_path_factory.mktemp("cache")

    def make(*overrides: str) -> DictConfig:
        cfg = compose("train", [f"cache={cache}", *overrides])
        check(cfg)
        return cfg

    return make


def saved(cfg: DictConfig, folder: Path) -> Path:
    """Return the folder of a run, with its config, as a launched run has it."""
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
    return folder


def command(
    module: str, *args: str, cwd: Path = ROOT, **kwargs
) -> subprocess.CompletedProcess[str]:
    """Run `python -m src.MODULE ARGS` as a user does, from the repository's root."""
    environment = {**os.environ, "PYTHONHASHSEED": "random", "OMP_NUM_THREADS": str(THREADS)}
    return subprocess.run(
        [sys.executable, "-m", f"src.{module}", *args],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        **kwargs,
    )


@pytest.fixture(scope="session")
def averaged_run(tmp_path_factory):
    """The folder of an MLP trained on digits, with a moving average."""
    return _trained(tmp_path_factory, "model=fc", "model.ema=0.9", "trainer.max_epochs=3")


@pytest.fixture(scope="session")
def permuted_run(tmp_path_factory):
    """The folder of a small CNN trained on digits with permuted pixels."""
    return _trained(tmp_path_factory, "model=cnn", "data.permute=true", "trainer.max_epochs=1")


@pytest.fixture(scope="session")
def words_run(tmp_path_factory):
    """The folder of a short run of word vectors, with all that callbacks=default shows."""
    cfg = compose(
        "train",
        ["model=word_vectors", "data=reviews", "trainer.accelerator=cpu", "trainer.max_epochs=3"],
    )
    check(cfg)
    folder = saved(cfg, tmp_path_factory.mktemp("words") / "run")
    train(cfg, folder)
    return folder


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the run in `folder`, by name."""
    return runs.load_checkpoint(runs.last_checkpoint(folder))["state_dict"]


def _trained(tmp_path_factory, *overrides: str) -> Path:
    cfg = compose("train", ["data=digits", "test=false", *overrides, *TINY, "data.limit=null"])
    check(cfg)
    folder = saved(cfg, tmp_path_factory.mktemp("runs") / "run")
    train(cfg, folder)
    return folder


@pytest.fixture
def gan_run(tmp_path):
    """A folder that looks like the run of a GAN: its config, and an empty checkpoint."""
    for name, text in (
        (".hydra/config.yaml", "model: {_target_: src.models.gan.GAN}"),
        ("checkpoints/last.ckpt", ""),
    ):
        (tmp_path / "gan" / name).parent.mkdir(parents=True)
        (tmp_path / "gan" / name).write_text(text)
    return tmp_path / "gan"


def call(module: str, function, *overrides: str):
    """Call a command's function in this process, as its command line would."""
    cfg = compose(module, [quoted(override) for override in overrides])
    with tempfile.TemporaryDirectory() as folder:
        if "cache" in cfg and not any(override.startswith("cache=") for override in overrides):
            cfg.cache = folder  # not the user's
        check(cfg, module)
        return function(cfg)


def logits_of_the_average(folder: Path, images: np.ndarray) -> np.ndarray:
    """Compute the logits of the MLP in `averaged_run` in NumPy, from the numbers in its checkpoint.

    Images are (B, 1, H, W) in [0, 1].
    """
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    x = ((images - float(state["mean"])) / float(state["std"])).reshape(len(images), -1)
    for k in (1, 2, 3):
        weight, bias = (
            state[f"average.module.fc{k}.{name}"].double().numpy() for name in ("weight", "bias")
        )
        x = x @ weight.T + bias
        x = np.maximum(x, 0) if k < 3 else x
    return x


def child_seconds() -> float:
    """Return the processor time of all commands so far, which other processes do not change."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def wrong(result: subprocess.CompletedProcess[str]) -> str:
    """Return the only line of stderr of a failed command; assert exit code 2, no traceback."""
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: "), result.stderr
    return lines[0]


def data_of(config, *overrides: str):
    """Return the data module of `overrides`, with its files read."""
    return build.datamodule(config(*overrides))


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of two classes with 36 images of colored noise each, all different."""
    root, noise = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (root / name).mkdir()
        for i in range(36):
            Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(
                root / name / f"{i}.png"
            )
    return root


@pytest.fixture(scope="session")
def winter_run(photos, tmp_path_factory):
    """The folder of a finished run, with its pictures."""
    cfg = compose(
        "train", [*WINTER_RUN, f"data.root={photos}", "callbacks=default", "augment=flip"]
    )
    check(cfg)
    folder = saved(cfg, tmp_path_factory.mktemp("uninterrupted") / "run")
    train(cfg, folder)
    return folder


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """A folder with photos of two classes, a photograph, a style and the run of a small VGG."""
    folder, noise = tmp_path_factory.mktemp("inputs"), np.random.default_rng(0)

    def image(path, height, width):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)

    for i in range(24):
        image(folder / "photos" / ("cats", "dogs")[i % 2] / f"{i:02d}.png", 16, 16)
    image(folder / "photo.png", 30, 40)
    image(folder / "style.png", 50, 50)
    cfg = small_run(
        *RUN[:-4],
        *IMAGES,
        "callbacks=none",
        "model=vgg",
        "model.net.features=[4,M,8]",
        "data.channels=3",
        "data.size=16",
        "trainer.max_epochs=1",
        "test=false",
        f"cache={folder / 'cache'}",
    )
    train(cfg, saved(cfg, folder / "vgg"))
    return folder
