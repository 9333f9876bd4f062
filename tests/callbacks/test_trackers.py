"""Loggers of MLflow, of Weights & Biases and of Lightning, beside TensorBoard and metrics.csv."""

import csv
import json
import re
import shutil
import sys
from collections import Counter

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from src.callbacks.loggers import CSVLogger, TensorBoard
from src.callbacks.mlflow_logger import MLflow
from src.callbacks.outbox import Outbox, Point
from src.config.checks import check
from src.config.compose import compose
from src.config.inputs import expect_packages
from src.core import runs
from src.core.errors import UserError
from src.engine import build
from src.train import train
from tests.conftest import TINY_NETS

RUN = (*TINY_NETS, "data.limit=40", "data.batch_size=8", "trainer=cpu", "trainer.max_epochs=2",
       "trainer.precision=32-true", "trainer.log_every_n_steps=1", "callbacks=none", "test=false",
       "+callbacks.samples._target_=src.callbacks.samples.Samples",
       "+callbacks.samples.every_n_batches=2", "+callbacks.samples.n=4",
       "+callbacks.samples.seed=0", "checkpoint.every_n_batches=3", "name=tiny", "tags=[a,b]",
       "note=a note")  # fmt: skip


def composed(*overrides):
    cfg = compose("train", list(overrides))
    check(cfg)
    return cfg


def trained_twice(tmp_path, *overrides):
    """Train, put the checkpoint before the last one back, and resume; return the run's folder."""
    folder = tmp_path / "runs" / "gan" / "one"
    folder.mkdir(parents=True)
    cfg = composed(*RUN, f"out={tmp_path / 'runs'}", *overrides)
    (folder / ".hydra").mkdir()
    OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
    (folder / "run.json").write_text(
        json.dumps(
            {
                "settings": {"name": "tiny", "tags": ["a", "b"], "note": "a note"},
                "sessions": [{"state": "running"}],
            }
        )
    )
    train(cfg, folder)
    checkpoints = folder / "checkpoints"
    shutil.copy(checkpoints / runs.PREVIOUS, checkpoints / runs.LAST)
    again = cfg.copy()
    again.resume = str(folder)
    train(again, folder)
    return folder


def rows_of(folder):
    """Return {(metric, batches): value} of metrics.csv."""
    with (folder / "metrics.csv").open(newline="") as file:
        return {
            (name, int(row["batches"])): float(value)
            for row in csv.DictReader(file)
            for name, value in row.items()
            if name != "batches" and value
        }


def test_points_that_an_earlier_session_sent_are_left_out(tmp_path):
    first = Outbox(tmp_path / "sent.json")
    first.run_id = "r"
    first.add(1, {"loss": 1.0})
    first.add(2, {"loss": 2.0, "lr": 0.1})
    assert [tuple(point) for point in first.take()] == [
        (1, "loss", 1.0), (2, "loss", 2.0), (2, "lr", 0.1)]  # fmt: skip
    first.add(2, {"acc": 0.5})  # validation after the same batch
    first.add(3, {"loss": 3.0})  # never sent: the process is killed

    second = Outbox(tmp_path / "sent.json")
    assert second.run_id == "r"
    for batches in (1, 2, 3):
        second.add(batches, {"loss": float(batches)})
    second.add(2, {"acc": 0.5})
    assert second.take() == [Point(3, "loss", 3.0), Point(2, "acc", 0.5)]


def test_numbers_that_could_not_be_sent_wait_for_the_resumed_run(tmp_path):
    first = Outbox(tmp_path / "sent.json")
    first.add(1, {"loss": 1.0, "samples": np.zeros((2, 2))})
    first.put_back(first.take())
    assert len(first.waiting) == 2
    second = Outbox(tmp_path / "sent.json")
    second.add(1, {"loss": 1.0})  # computed again, after the checkpoint
    assert second.take() == [Point(1, "loss", 1.0)]
    assert Outbox(tmp_path / "sent.json").take() == [], "sent once"


def test_damaged_record_of_sent_points_starts_a_new_one(tmp_path):
    (tmp_path / "sent.json").write_text("{")
    outbox = Outbox(tmp_path / "sent.json")
    outbox.add(1, {"loss": 1.0})
    assert outbox.run_id is None
    assert len(outbox.take()) == 1


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_missing_package_is_named_with_its_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
    with pytest.raises(UserError, match=rf"logger.{name} needs {name}.*pip install '.\[{name}\]'"):
        expect_packages(composed(f"logger={name}"))


def test_both_trackers_keep_tensorboard_and_metrics_csv():
    cfg = composed("logger=[mlflow,wandb]")
    assert list(cfg.logger) == ["tensorboard", "csv", "mlflow", "wandb"]
    with pytest.raises(UserError, match=r"logger.wandb.mode=on: must be one of offline, online"):
        composed("logger=wandb", "logger.wandb.mode=on")


def test_any_logger_of_lightning_is_checked_and_built(tmp_path):
    given = ("+logger.mine._target_=pytorch_lightning.loggers.CSVLogger",
             f"+logger.mine.save_dir={tmp_path}")  # fmt: skip
    with pytest.raises(UserError, match=r"unknown setting logger.mine.save_dirr.*save_dir"):
        composed(given[0], f"+logger.mine.save_dirr={tmp_path}")
    with pytest.raises(UserError, match=r"logger\.mine\.save_dir is missing"):
        composed(given[0])
    with pytest.raises(UserError, match="not allowed"):
        composed("+logger.mine._target_=pytorch_lightning.Trainer")
    trainer = build.trainer(composed(*given, "trainer=cpu"), tmp_path)
    kinds = [type(logger) for logger in trainer.loggers]
    assert kinds[:2] == [TensorBoard, CSVLogger]
    assert kinds[2].__module__.startswith("pytorch_lightning")


class Unreachable:
    """A client of an MLflow server that has stopped."""

    def __getattr__(self, name):
        def fail(*args, **kwargs):
            raise ConnectionError("connection refused")

        return fail


def test_a_run_ends_without_an_error_if_mlflow_has_stopped(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(MLflow, "_start", lambda self: None)
    logger = MLflow(tmp_path, 0, "http://localhost:1", "mnist")
    logger.client, logger.outbox.run_id = Unreachable(), "r"
    logger.log_final({}, {"test/acc": 0.5})
    assert caplog.messages == [
        "MLflow does not answer (connection refused)",
        "MLflow did not get the final metrics (connection refused); they are in metrics.json",
    ]


@pytest.mark.slow
def test_mlflow_has_every_value_once_and_the_pictures(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    folder = trained_twice(tmp_path, "logger=mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits")
    found = client.search_runs([experiment.experiment_id])
    assert len(found) == 1, "a resumed run goes on with the same one"
    run = found[0]
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "tiny"
    assert run.data.tags["mlflow.note.content"] == "a note"
    assert run.data.tags["a"] == "true"
    assert run.data.params["model.loss"] == "NonSaturating"
    points = {
        (name, point.step): point.value
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    }
    n_points = sum(
        len(client.get_metric_history(run.info.run_id, name)) for name in run.data.metrics
    )
    assert n_points == len(points), "no value twice"
    rows = rows_of(folder)
    assert points.keys() == rows.keys()
    timed = [key for key in rows if "per_second" in key[0]]
    assert all(points[key] == rows[key] for key in rows if key not in timed)
    pictures = [f.path for f in client.list_artifacts(run.info.run_id, "images")]
    pngs = [path for path in pictures if path.endswith(".png")]
    drawn = sorted((folder / "images").glob("samples_*.png"))
    assert len(pngs) == len(drawn)
    last = max(pngs, key=lambda path: int(re.search(r"step\W(\d+)", path)[1]))
    shown = Image.open(client.download_artifacts(run.info.run_id, last, str(tmp_path)))
    assert np.array_equal(np.asarray(shown), np.asarray(Image.open(drawn[-1])))


@pytest.mark.slow
def test_wandb_has_every_value_once_and_the_pictures(tmp_path):
    pytest.importorskip("wandb")
    folder = trained_twice(tmp_path, "logger=wandb")
    files = sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert len({file.name for file in files}) == 1, "both sessions have the same id"
    counts, points = Counter(), {}
    pictures = {}
    for file in files:
        for row in history(file):
            batches = int(row.pop(("batches",)))
            for (name, *field), value in row.items():
                if field == ["path"]:
                    pictures[batches] = file.parent / "files" / value
                elif not field and not name.startswith("_"):
                    points[name, batches] = value
                    counts[name, batches] += 1
    assert set(counts.values()) == {1}, "no value twice"
    rows = rows_of(folder)
    assert points.keys() == rows.keys()
    timed = [key for key in rows if "per_second" in key[0]]
    assert all(points[key] == rows[key] for key in rows if key not in timed)
    drawn = sorted((folder / "images").glob("samples_*.png"))
    assert sorted(pictures) == [int(path.stem.rpartition("_")[2]) for path in drawn]
    for path, batches in zip(drawn, sorted(pictures), strict=True):
        assert np.array_equal(*(np.asarray(Image.open(p)) for p in (path, pictures[batches])))


def history(path):
    """Yield the rows of a .wandb file: {(name, field of a picture): value}.

    It consists of blocks of 32 KiB with records, as LevelDB's log.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    data = path.read_bytes()
    place, record = 7, b""  # after the header of the file
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # the rest of a block is too short for a header
            place += 32768 - place % 32768
            continue
        size, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        record += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a full record, or its last part
            found, record = Record.FromString(record), b""
            if found.WhichOneof("record_type") == "history":
                yield {
                    tuple(item.nested_key or [item.key]): json.loads(item.value_json)
                    for item in found.history.item
                }
