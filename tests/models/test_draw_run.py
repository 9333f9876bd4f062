"""A run of DRAW: its metrics, its pictures, and the commands that read it."""

import io
import json

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.bench.__main__ import bench
from src.config.checks import check
from src.config.compose import compose
from src.core import runs
from src.core.errors import UserError
from src.engine import build
from src.evaluate import evaluate
from src.models.draw import box
from src.nets.attention import window
from src.sample import sample
from src.train import train
from tests.commands.test_commands import call
from tests.conftest import TINY, TINY_NETS
from tests.nets.test_cuda_graph import needs_gpu
from tests.nets.test_draw import SHAPES, batch, make, module

SMALL = (*TINY, "model=draw", "model.net.num_steps=3", "model.net.encoder_dim=16",
         "model.net.decoder_dim=16",
         "model.net.latent_dim=4", "data.val_size=20", "trainer.max_epochs=2",
         "trainer.log_every_n_steps=2",
         "logger=default", "callbacks=default",
         "callbacks.canvases.every_n_batches=3", "callbacks.canvases.n=3",
         "~callbacks.quality")  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("draw"), *SMALL, "data.binarize=true")


def run_of(folder, *overrides):
    """The folder of a finished run."""
    cfg = compose("train", list(overrides))
    check(cfg)
    (folder / ".hydra").mkdir()
    OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
    train(cfg, folder)
    return folder


@pytest.fixture(scope="module")
def events(finished):
    accumulator = EventAccumulator(str(finished), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def test_metrics_name_the_data_and_counts_they_are_based_on(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["nats_of"] == "digits, binarized each epoch"
    for stage in ("val", "test"):
        assert metrics[f"{stage}/bound_nats"] == pytest.approx(
            metrics[f"{stage}/recon_nats"] + metrics[f"{stage}/kl_nats"]
        )
        steps = [metrics[f"{stage}_steps/kl_nats_{t:02d}"] for t in (1, 2, 3)]
        assert sum(steps) == pytest.approx(metrics[f"{stage}/kl_nats"], rel=1e-5)


def test_tensorboard_has_losses_and_canvas_gifs(events):
    """100 images, batches of 32, two epochs: 8 batches; strips at 1, 3, 6 and the end, GIFs at 1
    and each doubling of 3."""
    tags = events.Tags()
    for name in ("loss", "bound_nats", "recon_nats", "kl_nats", "lr", "images_per_second"):
        assert [event.step for event in events.Scalars(f"train/{name}")] == [2, 4, 6, 8], name
    for name in ("samples", "reconstructions"):
        assert [event.step for event in events.Images(f"canvas_strips/{name}")] == [1, 3, 6, 8]
        moving = events.Images(f"canvas/{name}")
        assert [event.step for event in moving] == [1, 3, 6, 8]
        with Image.open(io.BytesIO(moving[-1].encoded_image_string)) as gif:
            assert (gif.format, gif.n_frames) == ("GIF", 4), "blank canvas, then one per step"
    assert "kl_steps" in tags["images"]


def test_run_folder_has_gifs_and_strips(finished):
    names = {path.name for path in (finished / "images").iterdir()}
    for name in ("samples", "reconstructions"):
        assert {
            f"canvas_{name}.gif",
            *(f"canvas_{name}_{n:08d}.png" for n in (1, 3, 6, 8)),
        } <= names


def test_sample_draws_the_sequence(finished, tmp_path):
    call("sample", sample, f"run={finished}", "n=5", "scale=1", f"out={tmp_path / 'canvas.gif'}")
    with Image.open(tmp_path / "canvas.gif") as gif:
        assert gif.n_frames == 4
        assert gif.size[1] > 2 * 30 + 2, "words are above the canvases"
    call("sample", sample, f"run={finished}", "n=5", f"out={tmp_path / 'canvas.png'}")
    assert Image.open(tmp_path / "canvas.png").size == (3 * 58 + 2, 2 * 58 + 2)
    with pytest.raises(UserError, match="has no animation"):
        call("sample", sample, f"run={finished}", "interpolate=3", f"out={tmp_path / 'x.gif'}")
    with pytest.raises(UserError, match="a DRAW cannot interpolate"):
        call("sample", sample, f"run={finished}", "interpolate=3", f"out={tmp_path / 'x.png'}")


def test_evaluate_estimates_the_likelihood(finished):
    values = call("evaluate", evaluate, f"run={finished}", "iwae_samples=20")
    metrics = json.loads((finished / "metrics.json").read_text())
    assert values["test/iwae_nats"] < values["test/bound_nats"]
    assert metrics["test/iwae_nats"] == values["test/iwae_nats"]
    assert metrics["test/iwae_samples"] == 20
    again = call("evaluate", evaluate, f"run={finished}", "iwae_samples=20", "iwae_rows=64")
    assert again["test/iwae_nats"] == pytest.approx(values["test/iwae_nats"], abs=0.5), (
        "for any chunk size"
    )


def test_iwae_of_a_gan_is_refused(tmp_path):
    folder = run_of(tmp_path, *TINY, *TINY_NETS, "trainer.max_epochs=1", "test=false")
    with pytest.raises(UserError, match="iwae_samples=5: a GAN has no likelihood"):
        call("evaluate", evaluate, f"run={folder}", "iwae_samples=5")


@pytest.mark.parametrize("model", ["draw", "draw_noattention"])
@pytest.mark.parametrize("shape", [["data.size=[10,13]"], ["data.size=12", "data.channels=3"]])
def test_gray_and_color_images_of_any_shape_train(config, tmp_path, model, shape):
    cfg = config(
        *TINY,
        f"model={model}",
        "model.net.num_steps=2",
        "data.limit=5",
        "data.val_size=0",
        "trainer.max_epochs=1",
        *shape,
    )
    values = train(cfg, tmp_path)
    assert np.isfinite(values["test/bound_nats"])


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_compiled_cell_equals_the_eager_one(config, device):
    outputs = []
    for compiled in ("false", "true"):
        torch.manual_seed(0)
        model = build.model(
            config("model=draw", "model.net.num_steps=3", f"model.compile={compiled}")
        ).to(device)
        if model.compile_setting:
            model.compile_networks()
        x = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        torch.manual_seed(1)
        loss = model.training_step((x.to(device), None), 0)["loss"]
        loss.backward()
        outputs.append([loss.detach(), *(p.grad for p in model.parameters())])
        assert not any("_orig_mod" in name for name in model.state_dict())
    for eager, compiled in zip(*outputs, strict=True):
        assert torch.allclose(eager, compiled, rtol=1e-3, atol=1e-4)


def test_missing_compiler_is_one_line(config, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match="needs a C"):
        build.model(config("model=draw", "model.compile=true"))


@pytest.mark.slow
def test_compiled_run_writes_its_graph_and_resumes(config, tmp_path):
    folder = run_of(tmp_path, *SMALL, "model.compile=true")
    events = EventAccumulator(str(folder))
    events.Reload()
    assert events.Tags()["graph"]
    cfg = runs.load_config(folder)
    cfg.resume, cfg.trainer.max_epochs = str(folder), 3
    assert train(cfg, folder)["batches"] == 12


def test_bench_has_a_plain_loop_of_draw(capsys):
    call("bench", bench, *SMALL, "bench.batches=2", "bench.warmup=1", "bench.rounds=1")
    assert "ours / plain: median" in capsys.readouterr().out


@pytest.mark.parametrize("kind", SHAPES)
def test_reconstructions_and_samples_start_from_the_same_blank_canvas(kind):
    model = module(make(kind))
    x, _ = batch(model.net)
    seen = {"samples": None, "reconstructions": x}
    for images in seen.values():
        growing = model.canvases(3, torch.Generator().manual_seed(0), images)
        height, channels, width = model.net.canvas.shape
        assert growing.frames.shape == (5, 3, channels, height, width)
        blank = model.net.canvas.transpose(0, 1).sigmoid()
        assert torch.allclose(growing.frames[0], blank.expand(3, -1, -1, -1))
        names = set() if kind == "none" else {"write"} if images is None else {"read", "write"}
        assert set(growing.windows) == names
        assert all(window.shape == (4, 3, 5) for window in growing.windows.values())
    last = model.net(x, model.noise(3, torch.Generator().manual_seed(0))).logits.sigmoid()
    assert torch.allclose(growing.frames[-1], last, atol=1e-6)


def test_box_corners_count_pixels_from_0():
    """The neutral window of an image of 9 rows and 7 columns: N = 5, delta 2, rows 0 to 8, columns
    -1 to 7, sigma 1."""
    assert box(window(torch.zeros(1, 5), 5, 9, 7)).tolist() == [[0, -1, 8, 7, 1]]


TABLE = {  # Gregor 2015, table 3, and the tutorial: T, LSTM, n_z, read, write
    "draw_tutorial": (10, 256, 10, 5, 5),
    "draw_tutorial_noattention": (10, 256, 10, None, None),
    "draw_mnist": (64, 256, 100, 2, 5),
    "draw_mnist_noattention": (64, 256, 100, None, None),
    "draw_svhn": (32, 800, 100, 12, 12),
    "draw_cifar10": (64, 400, 200, 5, 5),
}


@pytest.mark.parametrize("name", TABLE)
def test_recipes_have_the_settings_of_the_paper(config, name):
    net = config(f"experiment={name}").model.net
    steps, width, latent, read, write = TABLE[name]
    assert (net.num_steps, net.encoder_dim, net.decoder_dim, net.latent_dim) == (
        steps,
        width,
        width,
        latent,
    )
    assert (net.attention.get("read_size"), net.attention.get("write_size")) == (read, write)


def test_tutorial_recipes_have_the_settings_of_the_tutorial(config):
    cfg = config("experiment=draw_tutorial")
    assert (cfg.model.optimizer.lr, list(cfg.model.optimizer.betas)) == (1e-3, [0.5, 0.999])
    assert (cfg.data.batch_size, cfg.model.clip_norm, cfg.trainer.max_epochs) == (64, 5.0, 60)
    assert config("experiment=draw_tutorial_noattention").trainer.max_epochs == 30
