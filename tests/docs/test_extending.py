"""The pages on extending: their code, put into a copy of the project, trains for two batches.

A code block says which file it is: ```python file="src/new.py", or append="src/old.py".
"""

import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT, THREADS

BLOCK = re.compile(r'^```\w+ (file|append)="([^"]+)"\n(.*?)^```$', re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^    python -m (src\.train.*)$", re.MULTILINE)
SHORT = (
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "logger=csv",
)


def applied(page, copy):
    """Copy the project to the folder `copy` with the page's code; return the page's commands."""
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "docs" / page).read_text()
    for kind, name, code in BLOCK.findall(text):
        path = copy / name
        assert path.exists() == (kind == "append"), name
        with path.open("a") as file:
            file.write(code if kind == "file" else f"\n\n{code}")
    return [shlex.split(command) for command in COMMAND.findall(text)]


def run(copy, command):
    """Run a command in the copy, as a user would; return what it printed on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=copy,
        env={**os.environ, "OMP_NUM_THREADS": str(THREADS)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stderr


def trained(page, tmp_path, *extra):
    """Apply a page and train with its only command; return the run folder."""
    (command,) = applied(page, tmp_path)
    out = tmp_path / "run"
    own = (*SHORT, f"cache={tmp_path / 'cache'}", f"hydra.run.dir={out}", *extra)
    if not any(part.startswith("callbacks=") for part in (*command, *extra)):
        own = ("callbacks=none", *own)
    command = [f"data.root={tmp_path}" if part == "data.root=DIR" else part for part in command]
    code, printed = run(tmp_path, [*command, *own])
    assert code == 0, printed
    assert (out / "metrics.json").exists()
    return out


def refusal(copy, *overrides):
    """Return the line that wrong settings get in the copy."""
    code, printed = run(copy, ["src.train", *overrides])
    assert code == 2
    assert len(printed.splitlines()) == 1
    return printed


@pytest.mark.slow
def test_worked_callback_draws_the_first_batch(tmp_path):
    out = trained("adding-a-callback.md", tmp_path)
    assert (out / "images" / "first_batch.png").exists()
    line = refusal(tmp_path, "callbacks=[none,first_batch]", "callbacks.first_batch.n=0")
    assert "callbacks.first_batch.n=0" in line


@pytest.mark.slow
def test_worked_dataset_trains(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 28, 28, 1), dtype=np.uint8)
    np.savez(tmp_path / "arrays.npz", images=images, labels=np.arange(300) % 10)
    trained("adding-a-dataset.md", tmp_path)
    assert "arrays.npz" in refusal(
        tmp_path, "model=fc", "data=arrays", f"data.root={ROOT / 'docs'}"
    )


@pytest.mark.slow
def test_worked_loss_trains(tmp_path):
    trained("adding-a-loss.md", tmp_path)
    line = refusal(tmp_path, "model=gan", "model/loss=lsgan_targets", "model.loss.real_target=high")
    assert "model.loss.real_target=high" in line


@pytest.mark.slow
def test_worked_model_trains(tmp_path):
    out = trained("adding-a-model.md", tmp_path, "callbacks=default")
    assert list((out / "images").glob("reconstructions_*.png"))
    assert "model.noise=-1" in refusal(tmp_path, "model=autoencoder", "model.noise=-1")
    code, printed = run(tmp_path, ["src.train", "--summary", "model=autoencoder", "data=digits"])
    assert code == 0, printed


@pytest.mark.slow
def test_worked_model_resumes(tmp_path):
    out = trained("adding-a-model.md", tmp_path)
    code, printed = run(tmp_path, ["src.train", f"resume={out}", "trainer.max_epochs=2"])
    assert code == 0, printed


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs").glob("adding-a-*.md")), ids=lambda p: p.stem
)
def test_code_of_a_page_is_formatted(page, tmp_path):
    for _, name, code in BLOCK.findall(page.read_text()):
        if name.endswith(".py"):
            (tmp_path / "code.py").write_text(code)
            ruff = ["ruff", "format", "--check", "--line-length", "100", tmp_path / "code.py"]
            assert subprocess.run([sys.executable, "-m", *ruff], check=False).returncode == 0
