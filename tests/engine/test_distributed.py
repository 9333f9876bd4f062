"""Two processes that train one model stop together, and measure each image once."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from src.core import runs
from src.core.errors import UserError
from src.data.order import EpochSampler
from src.data.sets.style_pair import StylePair
from src.engine.resume import batches_done
from tests.conftest import TINY, TINY_NETS, command
from tests.engine.interruptions import assert_same_run, start, wait_for

DDP = (*TINY, "trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=32-true",
       "trainer.devices=2", "data.val_size=21", "data.limit=101")  # fmt: skip
LONG = (*DDP, *TINY_NETS, "model.n_critic=3", "trainer.max_epochs=60",
        "trainer.log_every_n_steps=20",
        "checkpoint.every_n_batches=5")  # fmt: skip


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("shuffle", [False, True])
def test_each_image_is_measured_once_in_equally_many_batches(world, batch_size, shuffle):
    """A forward pass may wait for the other processes: unequal numbers of batches would hang."""
    for n in range(world, 40):
        ranks = [
            EpochSampler(n, batch_size, 0, shuffle, rank=rank, world=world, once=True)
            for rank in range(world)
        ]
        batches = [list(sampler) for sampler in ranks]
        assert torch.cat([torch.cat(b) for b in batches]).sort().values.tolist() == list(range(n))
        assert {len(b) for b in batches} == {len(ranks[0])}
        assert all(len(batch) > 0 for b in batches for batch in b)


def test_fewer_images_than_processes_are_refused():
    with pytest.raises(UserError, match="1 image cannot be split among 2 processes"):
        EpochSampler(1, 8, 0, shuffle=False, rank=0, world=2, once=True)


def test_several_processes_are_refused_for_one_image():
    """They would share the steps, and could not share the image."""
    pair = StylePair("style_pair", "photo.png", "style.png", 16, 3, num_steps=4)
    pair.trainer = SimpleNamespace(world_size=2)
    with pytest.raises(UserError, match=r"optimizes one image: set trainer\.devices=1"):
        pair.train_dataloader()


def second_rank(process: subprocess.Popen) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = [pid for pid in children if b"src.train" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return int(ranks[0])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp") / "uninterrupted"
    result = command("train", *LONG, f"hydra.run.dir={folder}")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "receiver", "code"),
    [
        ("SIGTERM", "first", 143),
        ("SIGTERM", "second", 143),
        ("SIGINT", "second", 130),
        ("SIGTERM", "group", 143),
        ("SIGINT", "group", 130),
    ],
)
def test_all_processes_stop_after_the_same_batch(uninterrupted, tmp_path, name, receiver, code):
    folder, number = tmp_path / "cut", getattr(signal, name)
    process = start(*LONG, f"hydra.run.dir={folder}")
    wait_for(folder / "checkpoints" / "last.ckpt", process)
    deadline = time.monotonic() + 120
    rank = second_rank(process)
    if receiver == "group":
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid if receiver == "first" else rank, number)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    assert stderr.count("stopped after") == 1
    assert 0 < batches_done(runs.load_last(folder)) < 120
    while Path(f"/proc/{rank}").exists():  # it saved too, and is a moment behind
        assert time.monotonic() < deadline
        time.sleep(0.1)
    resumed = command("train", f"resume={folder}")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(uninterrupted, folder)


@pytest.mark.slow
def test_gans_train_on_two_devices_without_trainer_ddp(uninterrupted, tmp_path):
    """`trainer.devices=2` without `trainer=ddp`."""
    settings = [word for word in LONG if word != "trainer=ddp"]
    result = command("train", *settings, "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'r'}")
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_each_process_gets_its_accumulated_gradient_back(tmp_path):
    """Until the step, the processes have different gradients. The run is cut within a step."""
    settings = (*DDP, "model=fc", "data.batch_size=4", "trainer.accumulate_grad_batches=5",
                "trainer.max_epochs=40", "checkpoint.every_n_batches=3")  # fmt: skip
    result = command("train", *settings, f"hydra.run.dir={tmp_path / 'uninterrupted'}")
    assert result.returncode == 0, result.stderr
    for number in range(8):
        folder = tmp_path / f"cut_{number}"
        process = start(*settings, f"hydra.run.dir={folder}")
        wait_for(folder / "checkpoints" / "last.ckpt", process)
        process.terminate()
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 143, stderr
        if gradients := runs.load_last(folder).get("gradients"):
            break
    assert all(len(gradient) == 2 for gradient in gradients.values())
    assert any((gradient[0] != gradient[1]).any() for gradient in gradients.values())
    resumed = command("train", f"resume={folder}")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(tmp_path / "uninterrupted", folder)


@pytest.mark.slow
def test_two_processes_freeze_parts_early(tmp_path):
    result = command("train", *DDP, "model=vgg", "model.net.features=[4,M,8,M]", "data.size=8",
                     "model.ema=0.9", "model.freeze_early=[0.5,0.5]", "trainer.max_epochs=4",
                     "test=false", f"hydra.run.dir={tmp_path / 'run'}")  # fmt: skip
    assert result.returncode == 0, result.stderr
    state = runs.load_last(tmp_path / "run")["state_dict"]
    kept = {
        name.removeprefix("net."): torch.equal(value, state[f"average.module.{name[4:]}"])
        for name, value in state.items()
        if name.startswith("net.") and value.is_floating_point()
    }
    frozen = {name for name in kept if name.startswith(("conv1", "norm1"))}
    assert {name for name, is_equal in kept.items() if is_equal} == frozen


@pytest.mark.slow
def test_sweep_of_runs_with_two_processes_has_one_folder(tmp_path):
    settings = (*DDP, "model=fc", "trainer.max_epochs=1", "test=false", f"out={tmp_path}")
    result = command("train", "-m", *settings, "seed=0,1")
    assert result.returncode == 0, result.stderr
    (sweep,) = (tmp_path / "sweep").iterdir()
    for job in ("seed=0", "seed=1"):
        metrics = json.loads((sweep / job / "metrics.json").read_text())
        assert metrics["batches"] == 2  # 101 images, 2 processes, 32 images each


@pytest.mark.slow
def test_metrics_of_two_processes_are_those_of_one(tmp_path):
    """101 images do not divide by two, and a padded set would count one of them twice."""
    folder = tmp_path / "run"
    gallery = "src.callbacks.prediction_gallery.PredictionGallery"
    trained = command(
        "train", *DDP, "model=fc", "trainer.max_epochs=1", f"hydra.run.dir={folder}",
        f"+callbacks.predictions={{_target_: {gallery}, n: 12}}",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    mistakes = np.asarray(Image.open(folder / "images" / "test_mistakes.png"))
    both = json.loads((folder / "metrics.json").read_text())
    alone = command("evaluate", f"run={folder}")
    assert alone.returncode == 0, alone.stderr
    one = json.loads((folder / "metrics.json").read_text())
    names = [name for name in one if name.startswith("test")]
    assert {name: both[name] for name in names} == pytest.approx(
        {name: one[name] for name in names}, rel=1e-6, nan_ok=True
    )
    again = np.asarray(Image.open(folder / "images" / "test_mistakes.png"))
    rows = len(again) // 2  # without the title
    assert np.array_equal(mistakes[-rows:], again[-rows:]), "the mistakes of both processes"
