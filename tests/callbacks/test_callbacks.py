"""Callbacks: pictures, TensorBoard events and metrics; they do not change training."""

import io
import json
import resource
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.callbacks.images import delete_images_after
from src.callbacks.loggers import CSVLogger
from src.callbacks.prediction_gallery import PredictionGallery
from src.core import runs
from src.engine.load import load_run
from src.train import train
from src.viz import grids

RUN = ("data.limit=64", "data.batch_size=16", "data.val_size=32", "trainer.accelerator=cpu",
       "trainer.precision=32-true",
       "trainer.max_epochs=2", "trainer.log_every_n_steps=2",
       "callbacks.samples.every_n_batches=3", "callbacks.samples.n=9",
       "callbacks.weights.every_n_batches=4", "callbacks.quality.n=40")  # fmt: skip


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A small DCGAN run with everything on: (cfg, folder)."""
    from src.config.checks import check
    from src.config.compose import compose
    from src.metrics import features

    folder = tmp_path_factory.mktemp("run")
    cfg = compose("train", [*RUN, f"cache={tmp_path_factory.mktemp('cache')}"])
    check(cfg)
    (folder / ".hydra").mkdir()
    OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "STEPS", 20)  # the quality of its features is tested in test_fid.py
        train(cfg, folder)
    return cfg, folder


@pytest.fixture(scope="module")
def events(seen):
    accumulator = EventAccumulator(
        str(seen[1]), size_guidance={"tensors": 0, "scalars": 0, "images": 0}
    )
    accumulator.Reload()
    return accumulator


def test_samples_of_fixed_noise_are_written_as_pngs_and_gif(seen):
    names = sorted(path.name for path in (seen[1] / "images").glob("samples*"))
    assert names == ["samples.gif", *(f"samples_{n:08d}.png" for n in (1, 2, 3, 6, 8))]
    first, last = (np.asarray(Image.open(seen[1] / "images" / names[i])) for i in (1, -1))
    side = 3 * 58 + 2
    assert first.shape[0] > side, "words are above the samples"
    first, last = (picture[-side:, :side] for picture in (first, last))
    assert not np.array_equal(first, last)
    assert last.std() > 10, "not a gray square"
    with Image.open(seen[1] / "images" / "samples.gif") as gif:
        assert gif.n_frames == 5


def test_last_picture_shows_the_final_model(seen):
    from src.core.randomness import generator

    cfg, folder = seen
    _, model, _ = load_run(folder)
    expected = grids.grid(model.sample(9, generator(cfg.seed, "samples")), scale=2)
    picture = np.asarray(Image.open(folder / "images" / "samples_00000008.png"))
    drawn = picture[-expected.shape[0] :, : expected.shape[1], 0]  # below the words
    assert np.abs(drawn.astype(int) - expected.astype(int)).max() <= 1


def test_evaluate_reproduces_the_metrics_of_the_run(seen, monkeypatch):
    """The samples, the feature network and all other metrics."""
    from src.config.checks import check
    from src.config.compose import compose
    from src.evaluate import evaluate
    from src.metrics import features

    monkeypatch.setattr(features, "STEPS", 20)
    cfg = compose("evaluate", [f"run={seen[1]}"])
    check(cfg, "evaluate")
    before = runs.read_metrics(seen[1])
    values = evaluate(cfg)
    for name in ("test/fid_own", "test/kid_own", "test/coverage", "test/d_loss"):
        assert values[name] == pytest.approx(before[name], rel=1e-4), name
    assert runs.read_metrics(seen[1])["seconds"] == before["seconds"], (
        "metrics that it did not compute stay"
    )


def test_callbacks_do_not_change_training(seen, config, tmp_path):
    """The same run without pictures ends with bit-equal weights."""
    blind = config(*RUN[:7], "callbacks=none", "logger=csv", "test=false")
    train(blind, tmp_path)
    one, other = (
        runs.load_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (seen[1], tmp_path)
    )
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name]), name


def test_scalars_are_logged_at_the_number_of_batches_seen(events):
    """Two optimizers step in each batch, but the x axis counts batches, as it does for images."""
    tags = events.Tags()["scalars"]
    for name in (
        "d_loss",
        "g_loss",
        "d_real",
        "d_fake",
        "d_grad_norm",
        "g_grad_norm",
        "d_lr",
        "g_lr",
        "images_per_second",
    ):
        assert f"train/{name}" in tags
        assert [event.step for event in events.Scalars(f"train/{name}")] == [2, 4, 6, 8]
    assert [event.step for event in events.Scalars("val/d_loss")] == [4, 8]
    single = {tag for tag in tags if len(events.Scalars(tag)) == 1} - {"val/fid_own"}
    assert {tag.partition("/")[0] for tag in single} <= {"z_test", "val"}
    assert [event.step for event in events.Scalars("z_test/fid_own")] == [8]
    assert [event.step for event in events.Images("samples")] == [1, 2, 3, 6, 8]


def test_tensorboard_has_histograms_filters_and_graphs(seen, events):
    tags = events.Tags()
    (first,) = (tag for tag in tags["histograms"] if tag.startswith("weights/generator.0.weight "))
    assert first.endswith(" Linear 1024x96")
    for layer in ("generator.7", "generator.10", "discriminator.0", "discriminator.3"):
        assert f"filters/{layer}" in tags["images"]
    nodes = [node.name for node in events.Graph().node]
    for net, operation in (("generator", "ConvTranspose2d"), ("discriminator", "MaxPool2d")):
        assert any(f"GAN/Sequential[{net}]/{operation}" in name for name in nodes)
    assert {path.parent for path in seen[1].rglob("events*")} == {seen[1]}, "one run in the list"


def test_the_hparams_tab_is_not_empty(seen):
    accumulator = EventAccumulator(str(seen[1]))
    accumulator.Reload()
    plugins = accumulator.SummaryMetadata  # raises KeyError for a tag that is not there
    content = plugins("_hparams_/session_start_info").plugin_data.content
    for name in (b"model.optimizer.lr", b"data.batch_size", b"seed"):
        assert name in content
    assert b"test/fid_own" in plugins("_hparams_/experiment").plugin_data.content


def test_metrics_json_holds_the_final_metrics(seen):
    metrics = json.loads((seen[1] / "metrics.json").read_text())
    for name in ("test/fid_own", "test/fid_own_floor", "val/fid_own", "test/coverage",
                 "test/least_class", "test/d_loss",
                 "seconds", "images_per_second", "peak_memory_mb", "parameters", "features",
                 "batches"):  # fmt: skip
        assert name in metrics
    assert metrics["batches"] == 8
    assert sum(metrics[f"test/class_{i}"] for i in range(10)) == pytest.approx(1)
    assert metrics["peak_memory_mb"] > 100


def test_csv_has_the_same_values_as_tensorboard(seen, events):
    import csv

    with (seen[1] / "metrics.csv").open(newline="") as file:
        rows = {int(row["batches"]): row for row in csv.DictReader(file)}
    assert list(rows) == [2, 4, 6, 8]
    for event in events.Scalars("train/g_loss"):
        assert float(rows[event.step]["train/g_loss"]) == pytest.approx(event.value, rel=1e-6)


def test_csv_drops_rows_after_the_checkpoint(tmp_path):
    first = CSVLogger(tmp_path, 0)
    for step in range(5):
        first.log_metrics({"train/x": step + 0.1}, step)
    first.save()
    second = CSVLogger(tmp_path, 3)
    second.log_metrics({"train/y": 7.0}, 3)
    second.save()
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "batches,train/x,train/y",
        "1,0.1,",
        "2,1.1,",
        "3,2.1,",
        "4,,7.0",
    ]


def test_pictures_after_the_checkpoint_are_deleted_and_those_of_the_user_kept(tmp_path):
    names = ("samples_00000003.png", "samples_00000004.png", "samples_best.png", "samples.gif")
    (tmp_path / "images").mkdir()
    for name in names:
        (tmp_path / "images" / name).touch()
    trainer = pl.Trainer(default_root_dir=tmp_path, logger=False, accelerator="cpu")
    trainer.fit_loop.epoch_loop.batch_progress.total.processed = 3
    delete_images_after(trainer, "samples")
    left = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert left == sorted(set(names) - {"samples_00000004.png"})


def test_grid_places_images_row_by_row():
    images = torch.zeros(3, 1, 2, 2)
    images[2] = 0.5
    sheet = grids.grid(images, columns=2, gap=1)
    assert sheet.shape == (7, 7)
    assert (sheet[1:3, 1:3] == 0).all()
    assert (sheet[4:6, 1:3] == 128).all()
    assert (sheet[4:6, 4:6] == 255).all(), "no fourth image: white"
    assert (sheet[3] == 255).all()
    assert grids.grid(images, columns=2, gap=1, scale=3).shape == (15, 15)
    assert grids.grid(torch.rand(4, 3, 5, 6)).shape == (2 * 7 + 2, 2 * 8 + 2, 3)


def test_filter_tile_is_scaled_per_layer():
    weight = torch.zeros(2, 1, 2, 2)
    weight[0, 0, 0, 0], weight[1, 0, 0, 0] = -1, 1
    tile = grids.filter_tile(weight, tile_pixels=2)
    assert (tile.min(), tile[2, 2], tile[2, 3]) == (0, 0, 128)
    assert tile[2, 6] == 255
    assert grids.filter_tile(torch.rand(100, 8, 3, 3)).shape == (8 * 26 + 2, 8 * 26 + 2)
    assert grids.filter_tile(torch.rand(4, 3, 3, 3)).ndim == 3


def test_gif_opens_one_file_at_a_time(tmp_path):
    paths = [tmp_path / f"{i:02d}.png" for i in range(60)]
    for path in paths:
        Image.new("L", (4, 4)).save(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 20, hard))
    try:
        assert grids.gif(paths).startswith(b"GIF89a")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_gif_keeps_the_order_and_limits_the_frames(tmp_path):
    frames = []
    for i in range(10):
        frames.append(tmp_path / f"{i}.png")
        grids.save_png(np.full((4, 4), 20 * i, np.uint8), frames[-1])
    grids.save_gif(frames, tmp_path / "x.gif", max_frames=4)
    with Image.open(tmp_path / "x.gif") as gif:
        assert gif.n_frames == 4
        values = []
        for i in range(4):
            gif.seek(i)
            values.append(gif.convert("L").getpixel((0, 0)))
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0, 180)
    frames[0].write_bytes(b"")  # by a power failure
    assert Image.open(io.BytesIO(grids.gif(frames))).n_frames == 9
    assert grids.gif(frames[:1]) == b""


def test_mistakes_come_before_correct_predictions_of_low_probability():
    chances = torch.tensor([[0.34, 0.33, 0.33], [0.45, 0.55, 0], [0.9, 0.1, 0], [0.1, 0, 0.9]])
    model = SimpleNamespace(num_classes=3, counts=0, measured_net=0, scaled=torch.clone)
    gallery = PredictionGallery(n=3)
    images = torch.arange(4).view(4, 1, 1, 1)
    gallery.on_test_batch_end(
        None, model, {"logits": chances.log()}, (images, torch.zeros(4, dtype=torch.long)), 0
    )
    assert gallery.worst[0].flatten().tolist() == [3, 1, 0]
