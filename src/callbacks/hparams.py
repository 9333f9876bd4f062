"""The row of a run in TensorBoard's HPARAMS tab: its settings, and the metrics they led to."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard.summary import hparams

from src.core import run_record
from src.core.files import utf8
from src.core.tree import leaves

ALWAYS = ("seed", "data.name", "data.size", "data.batch_size", "data.train_size",
          "data.train_per_class", "trainer.max_epochs", "trainer.precision")  # fmt: skip
GROUPS = ("model", "data", "augment", "experiment", "trainer")
NO_SETTINGS = ("hydra", "out", "resume", "cache", "name", "tags", "note", "callbacks", "logger",
               "checkpoint", "objective", "test", "trainer.log_every_n_steps")  # fmt: skip


def given_settings(folder: Path) -> list[str]:
    """Return the names of the settings and choices that the command line of a run gave.

    Those that change no model, such as `out` or `callbacks.samples.n`, are left out.

    Args:
        folder: the run.
    """
    try:
        words = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return []
    names = [str(word).lstrip("+~").partition("=")[0] for word in words or ()]
    return [
        name
        for name in names
        if not any(f"{name}.".replace("/", ".").startswith(f"{no}.") for no in NO_SETTINGS)
    ]


def hparam_settings(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Return the settings that distinguish runs, by dotted name; a `_target_` as its last word.

    They include the choices of the groups of model and data, all settings of the command line, and
    those that a sweep varies, whatever they are.

    Args:
        cfg: the config of the run.
        folder: the run; its run.json has the choices.
    """
    choices, given = run_record.read(folder).get("choices", {}), given_settings(folder)
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    nodes = (plain.get("logger") or {}).values()
    swept = {name for node in nodes for name in node.get("columns") or ()}
    wanted = {*ALWAYS, *given, *swept}
    chosen: dict[str, Any] = {
        group: choice
        for group, choice in choices.items()
        if group.split("/")[0] in GROUPS or group in swept
    }
    for path, value in leaves({str(key): node for key, node in plain.items()}):
        if path.endswith("._target_"):
            path, value = path.removesuffix("._target_"), str(value).rpartition(".")[2]
        is_model = path.startswith("model") and not path.endswith("_partial_")
        if (path in wanted or is_model) and path not in chosen:
            is_number = isinstance(value, (int, float, bool))
            chosen[path] = value if is_number else utf8(str(value)).decode()
    return chosen


def hparam_summaries(
    settings: Mapping[str, Any],
    first: Iterable[str],
    metrics: Sequence[str],
    is_sweep: bool = False,
) -> list[Summary]:
    """Return the events of the HPARAMS tab.

    The tab shows five columns of each kind, first those marked as different between runs. A run
    marks the settings of its command line. A sweep marks those that it varies; the others are equal
    in all jobs, so they get no column.

    Args:
        settings: name -> value.
        first: names of the settings that are shown first.
        metrics: tags of the scalars that are shown.
        is_sweep: show no other settings than `first`.
    """
    experiment, start, end = hparams(dict(settings), dict.fromkeys(metrics, 0.0))
    plugin = experiment.value[0].metadata.plugin_data
    data = HParamsPluginData.FromString(plugin.content)
    known = set(first)
    for info in data.experiment.hparam_infos:
        info.differs = info.name in known
    swept = [info for info in data.experiment.hparam_infos if info.differs]
    if is_sweep and swept:
        del data.experiment.hparam_infos[:]
        data.experiment.hparam_infos.extend(swept)
    plugin.content = data.SerializeToString()
    return [experiment, start, end]
