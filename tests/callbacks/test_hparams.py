"""The columns of TensorBoard's HPARAMS tab."""

import json

from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from src.callbacks.hparams import given_settings, hparam_settings, hparam_summaries
from src.callbacks.loggers import TensorBoard


def test_settings_of_the_command_line_are_the_first_columns(tmp_path, config):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text(
        "- model=dcgan\n- model/loss=lsgan\n- +data.limit=64\n- ~callbacks.quality\n"
        "- out=x\n- hydra.run.dir=y\n- trainer.max_epochs=2\n- trainer.log_every_n_steps=1\n"
    )
    given = given_settings(tmp_path)
    assert given == ["model", "model/loss", "data.limit", "trainer.max_epochs"]
    choices = {"model": "dcgan", "model/loss": "lsgan", "logger": "default"}
    (tmp_path / "run.json").write_text(json.dumps({"choices": choices, "sessions": [{}]}))
    settings = hparam_settings(config("data.limit=64"), tmp_path)
    assert settings["model"] == "dcgan"
    assert settings["data.limit"] == 64
    assert {"seed", "data.batch_size", "model.optimizer.lr"} <= set(settings)
    assert not any(name.startswith(("logger", "callbacks")) for name in settings)
    experiment, *_ = hparam_summaries(settings, given, ["z_test/fid_own", "val/acc"])
    content = experiment.value[0].metadata.plugin_data.content
    shown = HParamsPluginData.FromString(content).experiment
    first = {info.name for info in shown.hparam_infos if info.differs}
    assert first == set(given)
    assert [info.name.tag for info in shown.metric_infos] == ["z_test/fid_own", "val/acc"]


def test_settings_that_a_sweep_varies_are_kept_whatever_they_are(tmp_path, config):
    cfg = config()
    assert "callbacks.quality.every_n_epochs" not in hparam_settings(cfg, tmp_path)
    columns = ["callbacks.quality.every_n_epochs"]
    OmegaConf.update(cfg, "logger.tensorboard.columns", columns, force_add=True)
    assert set(columns) <= set(hparam_settings(cfg, tmp_path))


def test_run_without_a_command_line_has_no_first_columns(tmp_path):
    assert given_settings(tmp_path) == []


def test_a_sweep_has_a_column_for_each_swept_setting_then_the_objective(tmp_path):
    log = TensorBoard(tmp_path, 0, columns=["model.optimizer.lr"], metrics=["val/acc"])
    log.log_final({"seed": 0, "model.optimizer.lr": 0.1}, {"val/loss": 1.0, "val/acc": 0.5})
    log.save()
    (path,) = tmp_path.glob("events*")
    found = [
        HParamsPluginData.FromString(value.metadata.plugin_data.content).experiment
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.tag == "_hparams_/experiment"
    ]
    assert [info.name for info in found[0].hparam_infos] == ["model.optimizer.lr"]
    assert [info.name.tag for info in found[0].metric_infos] == ["val/acc", "val/loss"]
