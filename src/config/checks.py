"""Check a config before torch is imported. A mistake becomes a one-line error.

`src.config.targets` checks each setting separately. This module checks that they fit together.
"""

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from src.config.compose import first_lines, groups, target_of
from src.config.objective import objectives
from src.config.schema import WrongValue, shown
from src.config.signatures import class_attribute
from src.config.targets import UnknownSetting, check_targets
from src.core.errors import UserError, near
from src.core.tree import leaves
from src.metrics.directions import direction


def check(cfg: DictConfig, command: str = "train") -> None:
    """Resolve the interpolations of a config and check it.

    Args:
        cfg: the result of `compose`, changed in place.
        command: the command that uses it, by the name of its file in conf/.

    Raises:
        UserError: the config has a mistake.
    """
    try:
        _check_kind(cfg)
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key} must be given: {error.full_key}=...") from error
    except UserError:
        raise
    except Exception as error:  # OmegaConf and each resolver can raise any exception type
        where = getattr(error, "full_key", None)
        raise UserError(f"{f'{where}: ' if where else ''}{first_lines(error)}") from error
    assert isinstance(plain, dict)
    settings = {str(key): node for key, node in plain.items()}
    try:
        check_targets(settings, command)
    except WrongValue as error:
        raise UserError(_at_source(cfg, error)) from error
    except UnknownSetting as error:
        raise UserError(f"{error}{error.suggestion(settings)}") from error
    _check_fit(settings)
    OmegaConf.resolve(cfg)


def _at_source(cfg: DictConfig, error: WrongValue) -> str:
    """Return the message of `error`, with the name of the setting that the user gave.

    A network with `size: ${data.size}` gets its value from data.size, which is what the user set.
    """
    raw = OmegaConf.to_container(cfg, resolve=False)
    source, seen = error.path, {error.path}
    while found := re.fullmatch(r"\$\{([\w.]+)\}", str(_select(raw, source))):
        source = found[1]
        if source in seen or _select(raw, source) is None:
            return str(error)
        seen.add(source)
    if source == error.path:
        return str(error)
    name = error.path.rpartition(".")[2]
    return (
        f"{source}={shown(error.value)} does not fit {error.target}, "
        f"whose {name} must be {error.allowed}"
    )


def _select(node: Any, path: str) -> Any:
    """Return the value at a dotted path of a plain config; None if there is none."""
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def takes(cfg: DictConfig) -> str | None:
    """Return the attribute `takes` of the model class in `cfg`; None if there is no such class."""
    kind: str | None = class_attribute(str(OmegaConf.select(cfg, "model._target_")), "takes")
    return kind


def _check_kind(cfg: DictConfig) -> None:
    """Raise UserError if the model cannot learn from this kind of data.

    This is checked first, because each kind has settings that the other does not have.
    """
    data = str(OmegaConf.select(cfg, "data._target_"))
    held, wanted = class_attribute(data, "holds"), takes(cfg)
    if "model" not in cfg and held not in (None, "images"):
        raise UserError(f"data={cfg.data.name} holds {held}: src.augment takes images with labels")
    if held is None or wanted is None:
        return
    if held != wanted:
        name = cfg.model._target_.rpartition(".")[2]
        raise UserError(
            f"a {name} takes {wanted} (data={' or '.join(_sets_of(wanted))}), "
            f"but data={cfg.data.name} holds {held}"
        )
    _check_supported("data", cfg.data, data)
    augment = cfg.augment if isinstance(cfg.get("augment"), DictConfig) else {}
    transforms = [str(name) for name, node in augment.items() if isinstance(node, DictConfig)]
    if transforms and not class_attribute(data, "can_augment"):
        raise UserError(
            f"data={cfg.data.name} holds {held}, which augment={','.join(transforms)} cannot change"
        )
    if "run" in augment:
        raise UserError(
            "augment=model is applied before training: "
            "python -m src.augment augment=model augment.run=RUN out=OUT"
        )


def _check_supported(path: str, node: Any, target: str) -> None:
    """Raise UserError if a setting of `node` has a value that `target` does not support."""
    supports = class_attribute(target, "supports") or {}
    for key, (possible, reason) in supports.items():
        value = node.get(key, possible[0])
        if value not in possible:
            allowed = ", ".join(map(shown, possible))
            raise UserError(
                f"{target.rpartition('.')[2]} does not support {path}.{key}={shown(value)}: "
                f"{reason} (allowed: {allowed})"
            )


def _sets_of(kind: str) -> list[str]:
    """Return the choices of data that hold `kind`."""
    targets = {choice: target_of("data", choice) for choice in groups()["data"]}
    return [name for name, target in targets.items() if class_attribute(target, "holds") == kind]


def _check_fit(cfg: dict[str, Any]) -> None:
    """Raise UserError if model, data and trainer do not fit together."""
    data, trainer = cfg.get("data"), cfg.get("trainer")
    model = cfg.get("model")
    if not (isinstance(data, dict) and isinstance(model, dict) and isinstance(trainer, dict)):
        return
    if data.get("train_per_class") is not None and data.get("train_size") is not None:
        raise UserError(
            "data.train_size and data.train_per_class both limit the training set: "
            "set only one of them"
        )
    for path, value in leaves(model, "model"):
        key = path.rpartition(".")[2]
        if key in ("channels", "size") and value != data[key]:
            raise UserError(
                f"{path}={value} does not fit {data['name']}, "
                f"whose images have data.{key}={data[key]}"
            )
    tta = model.get("tta") or {}
    if data.get("permute") and (tta.get("flip") or tta.get("shift")):
        raise UserError(
            "data.permute scatters the pixels, so flipped or shifted views are images that the "
            "network never saw: set model.tta.flip=false model.tta.shift=0"
        )
    if shift := tta.get("shift"):
        side = min(data["size"]) if isinstance(data["size"], list) else data["size"]
        if shift >= side:
            raise UserError(
                f"model.tta.shift={shift} moves images of data.size={data['size']} out of view"
            )
    optimizers = class_attribute(str(model.get("_target_")), "optimizer_names") or ()
    if len(optimizers) > 1 and model["optimizer"]["_target_"] == "torch.optim.LBFGS":
        raise UserError(
            f"model/optimizer=lbfgs evaluates its loss several times a step, which "
            f"{model['_target_']} with its {len(optimizers)} optimizers does not support: "
            "choose another, such as adam"
        )
    _check_transfer(model, trainer)
    _check_best(cfg, str(model.get("_target_")))
    _check_monitors(cfg, str(model.get("_target_")))
    if (cfg.get("objective") or {}).get("metric") is not None:
        objectives(cfg)
    _check_supported("trainer", trainer, str(model.get("_target_")))


def _check_best(cfg: dict[str, Any], model: str) -> None:
    """Raise UserError if the settings of the best checkpoints do not fit together."""
    settings = cfg.get("checkpoint") or {}
    monitor, mode = settings.get("monitor"), settings.get("mode")
    if monitor is None and mode is not None:
        raise UserError(
            f"checkpoint.mode={mode} has no effect without checkpoint.monitor: "
            "set checkpoint.monitor=val/acc, for example"
        )
    if monitor is None:
        if settings.get("keep", 1) > 1 and "early_stopping" not in (cfg.get("callbacks") or {}):
            raise UserError(
                f"checkpoint.keep={settings['keep']} has no effect without checkpoint.monitor: "
                "set checkpoint.monitor=val/loss, for example"
            )
        return
    own = class_attribute(model, "key_metrics") or ()
    if not monitor.startswith("val/"):
        known = [f"val/{name}" for name in own]
        last = monitor.rpartition("/")[2]
        hint = f"; did you mean val/{last}?" if last in own else near(f"val/{last}", known)
        raise UserError(
            f"checkpoint.monitor={monitor}: must be a metric of validation, val/...{hint}"
        )


def _check_monitors(cfg: dict[str, Any], model: str) -> None:
    """Raise UserError if a setting `monitor` names no metric, or none whose direction is known."""
    own, values = class_attribute(model, "monitor"), dict(leaves(cfg))
    for path, value in values.items():
        node, _, name = path.rpartition(".")
        if name != "monitor":
            continue
        if value is None and own is None and node != "checkpoint":
            raise UserError(
                f"{path} must be given: a {model.rpartition('.')[2]} has no validation metric that "
                f"falls as it gets better; name a val/ metric of docs/metrics.md, or leave out "
                f"{node}"
            )
        if value:
            _check_measured(path, value, cfg)
        if value and values.get(f"{node}.mode", "") is None and direction(value) is None:
            known = [f"val/{metric}" for metric in class_attribute(model, "key_metrics") or ()]
            raise UserError(
                f"{node}.mode must be given, min or max: the name of {value} does not say "
                f"which is better{near(value, known)}"
            )


def _check_measured(path: str, metric: str, cfg: dict[str, Any]) -> None:
    """Raise UserError if a callback measures the metric that `path` names, but not each time."""
    between = cfg["trainer"]["check_val_every_n_epoch"] or 1  # epochs
    if 0 <= cfg["trainer"]["max_epochs"] < 2 * between:  # the only validation is the last
        return
    for name, node in (cfg.get("callbacks") or {}).items():
        measures = class_attribute(str(node.get("_target_")), "measures") or ()
        every = node.get("every_n_epochs")
        if metric.removeprefix("val/") in measures and (every is None or between % every):
            raise UserError(
                f"{path}={metric} must be measured at every validation: "
                f"set callbacks.{name}.every_n_epochs={between}"
            )


def _check_transfer(model: dict[str, Any], trainer: dict[str, Any]) -> None:
    """Raise UserError if the settings of transfer learning do not fit together."""
    source = model.get("init_from")
    transfer = model.get("transfer") or {}
    freeze, epoch = transfer.get("freeze", "none"), transfer.get("unfreeze_epoch")
    target = str((model.get("net") or {}).get("_target_"))
    if source == "pretrained" and not target.startswith(
        ("torchvision.models.", "src.nets.timm_net.", "src.nets.perceptual.")
    ):
        raise UserError(
            f"model.init_from=pretrained: there are no published weights for {target}; "
            "give a run's folder or a checkpoint"
        )
    if source is None and freeze != "none":
        raise UserError(
            f"model.transfer.freeze={freeze} without model.init_from would freeze random weights"
        )
    if source is not None and (model.get("normalize") or {}).get("whiten"):
        raise UserError(
            f"model.normalize.whiten=true would overwrite the first layer of "
            f"model.init_from={source}"
        )
    if epoch is None:
        return
    name = f"model.transfer.unfreeze_epoch={epoch}"
    if freeze == "none":
        raise UserError(
            f"{name}, but model.transfer.freeze=none freezes nothing; "
            "set it to backbone or to a number of layers"
        )
    if epoch >= trainer["max_epochs"]:
        raise UserError(f"{name} is never reached: trainer.max_epochs={trainer['max_epochs']}")
    devices = trainer["devices"]
    if devices != 1 and not (isinstance(devices, list) and len(devices) == 1):
        raise UserError(
            f"{name} needs trainer.devices=1: with several processes, "
            "the trained parameters are fixed at the start"
        )
