"""What a config may say: composing it, checking it before anything heavy is imported, one line for whatever is wrong."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.errors import UserError, near
from src.rules import RULES, rule_for

SRC = Path(__file__).resolve().parent
CONF = SRC.parent / "conf"

# Classes and functions that a `_target_` may name, besides what src/{data,models,nets,callbacks,losses,optimizers,schedules}
# define.
# A class has one dot fewer than a way through a module to `torch.load`, so each pattern fixes the depth.
LIBRARIES = (
    r"torch\.nn\.[A-Z]\w*",
    r"torch\.optim\.[A-Z]\w*",
    r"torch\.optim\.lr_scheduler\.[A-Z]\w*",
    r"torchvision\.models\.(alexnet|googlenet|[a-z]+\d\w*)",
    r"pytorch_lightning\.Trainer",
    r"pytorch_lightning\.callbacks\.[A-Z]\w*",
    r"pytorch_lightning\.loggers\.[A-Z]\w*",
)
PACKAGES = ("data", "models", "nets", "callbacks", "losses", "optimizers", "schedules")


@dataclass(frozen=True)
class Family:
    """What a LightningModule takes.

    Attributes:
        refuses: Trainer settings that it cannot honour, each with the values that it can and the reason.
        takes: what a data set must hold for it, one of `KINDS` or images.
        sentences: those of data=reviews that it trains on, `labelled` or `unlabelled`.
    """

    refuses: dict[str, tuple[tuple[Any, ...], str]] = field(default_factory=dict)
    takes: str = "images"
    sentences: str | None = None


KINDS = {  # of data; what is not here holds images
    "src.data.reviews.Reviews": "sentences",
    "src.data.unpaired.Unpaired": "two domains of images",
    "src.data.unpaired.Winter": "two domains of images",
    "src.data.style_pair.StylePair": "a photograph and a style",
}
ITSELF = "a GAN steps its two optimisers itself"
TWO_PLAYERS = {
    "accumulate_grad_batches": ((1,), f"{ITSELF}; use data.batch_size"),
    "gradient_clip_val": ((None,), f"{ITSELF}; model/loss=wgan or wgan_gp bounds its critic"),
}
FAMILIES = {
    "src.models.gan.GAN": Family(refuses=TWO_PLAYERS),
    "src.models.cyclegan.CycleGAN": Family(
        refuses=TWO_PLAYERS | {"gradient_clip_val": ((None,), ITSELF)},
        takes="two domains of images",
    ),
    "src.models.style_transfer.StyleTransfer": Family(
        refuses={
            "accumulate_grad_batches": ((1,), "there is one image"),
            "precision": (("auto", "32-true"), "float32 alone"),
        },
        takes="a photograph and a style",
    ),
    "src.models.word_vectors.WordVectors": Family(takes="sentences", sentences="unlabelled"),
    "src.models.sentiment.Sentiment": Family(takes="sentences", sentences="labelled"),
}
SIZES = {  # sides of the square images that a net takes
    "src.nets.dcgan.generator": (16, 28, 32, 64, 128, 256),
    "src.nets.dcgan.discriminator": (16, 28, 32, 64, 128, 256),
}


def compose(config_name: str, overrides: list[str], with_hydra: bool = False) -> DictConfig:
    """The config that `overrides` make of conf/`config_name`.yaml. Raises UserError for what cannot be composed."""
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = hydra.compose(config_name, overrides, return_hydra_config=True)
            if with_hydra:
                HydraConfig.instance().set_config(cfg)  # for ${hydra:...} in the run's folder
                return cfg
    except OverrideParseException as error:
        raise UserError(
            f"cannot read '{error.override}': an override is written key=value (quote what the shell would take)"
        ) from error
    except MissingConfigException as error:
        raise UserError(_unknown_choice(error, overrides)) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_unknown_key(config_name, overrides, error)) from error
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    return cfg


def check(cfg: DictConfig) -> None:
    """Raise UserError for the first thing in `cfg` that cannot work, and resolve its interpolations."""
    _check_kind(cfg)
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        missing = getattr(error, "full_key", None)
        raise UserError(
            f"{missing} must be given: {missing}=..."
            if "missing" in str(error).lower()
            else _first(error)
        ) from error
    assert isinstance(plain, dict)
    for path, value in sorted(leaves(plain), key=lambda leaf: leaf[0].count(".")):
        if path.endswith("_target_"):
            _check_target(path, value)
        elif not path.endswith("_partial_"):
            _check_value(path, value)
    _check_fit({str(key): node for key, node in plain.items()})
    OmegaConf.resolve(cfg)


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of a plain config with its dotted path; a list is one value."""
    if isinstance(node, dict) and (node or not path):
        for key, child in node.items():
            yield from leaves(child, f"{path}.{key}" if path else str(key))
    elif not (path in ("experiment", "logger", "callbacks", "augment") and not node):
        yield path, node


@cache
def groups() -> dict[str, list[str]]:
    """Each config group with its choices; a name that begins with _ is no choice."""
    found: dict[str, list[str]] = {}
    for path in sorted(CONF.glob("*/**/*.yaml")):
        if not path.name.startswith("_"):
            found.setdefault(str(path.parent.relative_to(CONF)), []).append(path.stem)
    return found


def _check_value(path: str, value: Any) -> None:
    rule = rule_for(path)
    if rule is None:
        raise UserError(f"unknown setting {path}{near(path.rsplit('.', 1)[-1], list(RULES))}")
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        value = float(
            value
        )  # YAML 1.1 takes 1e-3 for words; OmegaConf does not, but a quoted one stays
    if allowed := rule(value):
        shown = "null" if value is None else value
        raise UserError(f"{path}={shown}: it takes {allowed}")


def _check_target(path: str, target: Any) -> None:
    if isinstance(target, str):
        if any(re.fullmatch(pattern, target) for pattern in LIBRARIES):
            return
        *module, name = target.split(".")
        if (
            len(module) > 1
            and module[0] == "src"
            and module[1] in PACKAGES
            and name in _defined(tuple(module))
        ):
            return
    raise UserError(
        f"{path}={target} is not allowed: it may name a class of src ({', '.join(PACKAGES)}), "
        "a net of torch.nn or torchvision.models, an optimiser or schedule of torch.optim"
    )


@cache
def _defined(module: tuple[str, ...]) -> set[str]:
    """The names that a module of ours defines itself, read without importing it; what it imports is not among them."""
    path = SRC.parent.joinpath(*module).with_suffix(".py")
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}


def family(cfg: DictConfig) -> Family:
    """What the model in `cfg` takes."""
    return FAMILIES.get(str(OmegaConf.select(cfg, "model._target_")), Family())


def _check_kind(cfg: DictConfig) -> None:
    """Raise UserError for images where the model takes sentences, say; before either is asked for settings that only the
    other has."""
    target, given = OmegaConf.select(cfg, "model._target_"), OmegaConf.select(cfg, "data._target_")
    if target is None or given is None:
        return
    wanted, held = family(cfg).takes, KINDS.get(given, "images")
    if held != wanted:
        raise UserError(
            f"a {target.rpartition('.')[2]} takes {wanted} (data={' or '.join(_sets_of(wanted))}), and data={cfg.data.name} "
            f"holds {held}"
        )
    changed = [
        name
        for name in ("permute", "binarize")
        if wanted == "two domains of images" and cfg.data.get(name) is True
    ]
    if changed:
        raise UserError(f"data.{changed[0]}=true: {target} takes images as they are")
    augment = cfg.get("augment") or {}
    transforms = [str(name) for name, node in augment.items() if isinstance(node, DictConfig)]
    if transforms and wanted in ("sentences", "a photograph and a style"):
        raise UserError(
            f"data={cfg.data.name} holds {wanted}, which augment={','.join(transforms)} cannot change"
        )
    if "run" in augment:
        raise UserError(
            "augment=model makes images beforehand: python -m src.augment augment=model augment.run=RUN out=OUT"
        )


def _sets_of(kind: str) -> list[str]:
    """The choices of data that hold `kind`, one of `KINDS` or images."""
    nodes = {
        choice: OmegaConf.load(CONF / "data" / f"{choice}.yaml") for choice in groups()["data"]
    }
    targets = {choice: OmegaConf.select(node, "_target_") for choice, node in nodes.items()}
    return [choice for choice, target in targets.items() if KINDS.get(target, "images") == kind]


def _check_fit(cfg: dict[str, Any]) -> None:
    """Do model, data and trainer go together?"""
    data, trainer = cfg.get("data"), cfg.get("trainer")
    model = cfg.get("model")
    if not (isinstance(data, dict) and isinstance(model, dict) and isinstance(trainer, dict)):
        return
    if cfg["seed"] is None:
        raise UserError("seed=null: it takes a whole number from 0")
    if data.get("name") == "binarized_mnist" and (data["size"], data["channels"]) != (28, 1):
        raise UserError(
            "data.size and data.channels of binarized_mnist stay 28 and 1: resized, it would not be binary"
        )
    if data.get("train_per_class") is not None and data.get("train_size") is not None:
        raise UserError(
            "data.train_size and data.train_per_class both say how many images to train on: give one of them"
        )
    for path, value in leaves(model, "model"):
        key = path.rpartition(".")[2]
        if key in ("channels", "size") and value != data[key]:
            raise UserError(
                f"{path}={value} does not fit {data['name']}, whose images have data.{key}={data[key]}"
            )
        if key == "_target_" and value in SIZES and data["size"] not in SIZES[value]:
            sizes = ", ".join(map(str, SIZES[value]))
            other = "" if model.get("num_classes") else " (model/net=fc takes any)"
            raise UserError(
                f"data.size={data['size']} does not fit {value}: its images have a side of {sizes}{other}"
            )
    if shift := model.get("shift"):
        side = min(data["size"]) if isinstance(data["size"], list) else data["size"]
        if shift >= side:
            raise UserError(
                f"model.shift={shift} moves images of data.size={data['size']} out of sight"
            )
    _check_transfer(model, trainer)
    for key, (possible, why) in FAMILIES.get(str(model.get("_target_")), Family()).refuses.items():
        if trainer.get(key, possible[0]) not in possible:
            raise UserError(f"trainer.{key}={trainer[key]} cannot be honoured: {why}")


def _check_transfer(model: dict[str, Any], trainer: dict[str, Any]) -> None:
    """Do the settings of transfer learning go together?"""
    source, freeze, epoch = (model.get(key) for key in ("init_from", "freeze", "unfreeze_epoch"))
    target = str((model.get("net") or {}).get("_target_"))
    if source == "torchvision" and not target.startswith(
        ("torchvision.models.", "src.nets.perceptual.")
    ):
        raise UserError(
            f"model.init_from=torchvision: {target} has no weights there; it takes a run's folder or a checkpoint"
        )
    if source is None and freeze not in (None, "none"):
        raise UserError(
            f"model.freeze={freeze} without model.init_from would freeze weights that nothing has trained"
        )
    if source is not None and model.get("whiten"):
        raise UserError(
            f"model.whiten=true would overwrite the first layer that model.init_from={source} brings"
        )
    if epoch is None:
        return
    if freeze == "none":
        raise UserError(
            f"model.unfreeze_epoch={epoch}, but model.freeze=none freezes nothing; backbone does, or a number of layers"
        )
    if epoch >= trainer["max_epochs"]:
        raise UserError(
            f"model.unfreeze_epoch={epoch} never comes: trainer.max_epochs={trainer['max_epochs']}"
        )
    devices = trainer["devices"]
    if devices != 1 and not (isinstance(devices, list) and len(devices) == 1):
        raise UserError(
            f"model.unfreeze_epoch={epoch} takes trainer.devices=1: several settle at the start what they train"
        )


def _unknown_choice(error: MissingConfigException, overrides: list[str]) -> str:
    missing = str(error.missing_cfg_file or "")
    group, _, name = missing.rpartition("/")
    choices = [
        choice
        for choice in (error.options or groups().get(group, []))
        if not choice.startswith("_")
    ]
    if group and choices:
        return (
            f"{group}={name}: no such choice; allowed are {', '.join(choices)}{near(name, choices)}"
        )
    return _first(error)


def _unknown_key(config_name: str, overrides: list[str], error: Exception) -> str:
    """Name the override at fault, and the nearest key or group that exists."""
    words = str(error)
    quoted = re.search(r"(?:Could not override|Key) '([^']+)'|Could not find '([^']+)'", words)
    key = next((group for group in quoted.groups() if group), "") if quoted else ""
    given = next((o for o in overrides if key and key.split(".")[-1] in o.split("=")[0]), None)
    if given is None:
        return _first(error)
    key = given.split("=")[0].lstrip("+~")
    chosen = [
        o
        for o in overrides
        if o != given and o.split("=")[0].lstrip("+~").split("@")[0] in groups()
    ]
    try:
        known = [
            path
            for path, _ in leaves(
                OmegaConf.to_container(compose(config_name, chosen), resolve=False)
            )
        ]
    except UserError:
        known = []
    known += [prefix for path in known for prefix in [path.rpartition(".")[0]] if prefix]
    return f"unknown key '{key}' in '{given}'{near(key, sorted({*known, *groups()}))}"


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__
