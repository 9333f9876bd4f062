"""Compose conf/ and overrides into one config. A mistake becomes a one-line error."""

import contextlib
import copy
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from src.core.errors import UserError, near

CONF = Path(__file__).resolve().parents[2] / "conf"


def compose(config_name: str, overrides: list[str], with_hydra: bool = False) -> DictConfig:
    """Return conf/`config_name`.yaml with `overrides`; raise UserError if they do not compose."""
    opened = new_keys(config_name, overrides)
    overrides = [f"++{o}" if o.partition("=")[0] in opened else o for o in overrides]
    try:
        cfg = _composed(config_name, overrides)
    except Exception as error:  # Hydra, OmegaConf and their grammars can raise any exception type
        raise UserError(_explanation(config_name, overrides, error)) from error
    if with_hydra:
        HydraConfig.instance().set_config(cfg)  # for ${hydra:...} in the run's folder
        return cfg
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    complete(cfg)
    known = settings_of(config_name)
    if "recommended" not in known:  # a data set recommends settings of training
        cfg.pop("recommended", None)
    check_keys(cfg, known)
    return cfg


def new_keys(config_name: str, overrides: list[str]) -> set[str]:
    """Return the keys in `overrides` that the config lacks; for Hydra they need a leading ++.

    They are parameters of a `_target_` for which conf/ has no value. `src.config.targets` checks
    them against the signature. A node that is empty in conf/ takes any key.
    """
    with contextlib.suppress(Exception):
        _composed(config_name, overrides)
        return set()
    chosen = [override for override in overrides if is_group(_key(override))]
    try:
        base = OmegaConf.to_container(_composed(config_name, chosen), resolve=False)
    except Exception:  # a choice does not exist: `compose` reports it
        return set()
    return {o.partition("=")[0] for o in overrides if _is_new_key(o, base)}


def _is_new_key(override: str, base: Any) -> bool:
    key, equals, _ = override.partition("=")
    *parents, name = key.split(".")
    node = base
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    if key.startswith("hydra.") and "_partial_" not in (node or {}):
        return False  # the config of a launcher is complete
    is_open = isinstance(node, dict) and bool(parents) and ("_target_" in node or not node)
    return bool(equals) and is_open and name not in node and re.fullmatch(r"\w+", name) is not None


def complete(cfg: DictConfig) -> None:
    """Add an empty node for each group of a run that GROUP=null removed."""
    for group in ("augment", "callbacks", "logger") if "trainer" in cfg else ():
        if group not in cfg:
            cfg[group] = {}


def parse(overrides: list[str]) -> list[Override]:
    """Parse overrides with Hydra's grammar. Raises UserError for one that it cannot read."""
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()  # glob(*) asks it for a group's choices
            return OverridesParser.create(config_loader=loader).parse_overrides(overrides)
    except OverrideParseException as error:
        raise UserError(_unreadable(error)) from error


@cache
def groups() -> dict[str, list[str]]:
    """Return each config group with its choices; a file name with a leading _ is not a choice."""
    found: dict[str, list[str]] = {}
    for path in sorted(CONF.glob("*/**/*.yaml")):
        if not path.name.startswith("_") and path.parent.parent.name != "hydra":
            found.setdefault(str(path.parent.relative_to(CONF)), []).append(path.stem)
    return found


HYDRA_GROUPS = {  # GROUP=CHOICE -> the extra that has the plugin
    "hydra/launcher": {"basic": "", "joblib": "joblib", "submitit_local": "submitit",
                       "submitit_slurm": "submitit"},
    "hydra/sweeper": {"basic": "", "optuna": "optuna"},
}  # fmt: skip


def is_group(key: str) -> bool:
    """Return whether `key` is a config group, of the project or of Hydra."""
    return key in groups() or key in HYDRA_GROUPS


@cache
def target_of(group: str, choice: str) -> str:
    """Return the `_target_` that conf/`group`/`choice`.yaml names; empty if a base names it."""
    text = (CONF / group / f"{choice}.yaml").read_text(encoding="utf-8")
    indent = "  " if "# @package _global_" in text else ""
    found = re.search(rf"^{indent}_target_: (\S+)", text, re.MULTILINE)
    return found[1] if found else ""


@cache
def settings_of(config_name: str) -> dict[str, Any]:
    """Return the top-level settings of conf/`config_name`.yaml and its groups.

    A group maps to None; `trainer` maps to its settings, which are equal in all choices.
    """
    own = OmegaConf.to_container(OmegaConf.load(CONF / f"{config_name}.yaml"))
    assert isinstance(own, dict)
    found: dict[str, Any] = {}
    for entry in own.pop("defaults", []):
        name = entry if isinstance(entry, str) else next(iter(entry)).removeprefix("override ")
        if isinstance(entry, str) and (CONF / f"{name}.yaml").is_file() and "/" not in name:
            found |= settings_of(name)
        elif name not in ("_self_", "experiment"):
            found.setdefault(name.split("/")[0], None)
    if "trainer" in found:
        found["trainer"] = OmegaConf.to_container(OmegaConf.load(CONF / "trainer" / "auto.yaml"))
    own.pop("hydra", None)
    return found | {str(key): value for key, value in own.items() if key not in found}


def check_keys(cfg: DictConfig, settings: dict[str, Any], path: str = "") -> None:
    """Raise UserError for a key of `cfg` that is not in `settings`, or the reverse.

    The keys of a node with a `_target_` are checked elsewhere, against its signature.
    """
    names = [str(key) for key in settings]
    for key in map(str, cfg):
        if key not in settings and "_target_" not in settings:
            raise UserError(f"unknown key '{path}{key}'{near(key, names)}")
    for key, value in settings.items():
        if key not in cfg.keys():  # noqa: SIM118 (`in cfg` leaves out keys that are still ???)
            raise UserError(f"{path}{key} is missing: a config must have it")
        child = None if OmegaConf.is_missing(cfg, key) else cfg._get_node(key)
        if (
            value
            and isinstance(value, dict)
            and isinstance(child, DictConfig)
            and not child._is_none()
        ):
            check_keys(child, value, f"{path}{key}.")


def _composed(config_name: str, overrides: list[str]) -> DictConfig:
    return copy.deepcopy(_composed_once(config_name, tuple(overrides)))


@lru_cache(maxsize=8)
def _composed_once(config_name: str, overrides: tuple[str, ...]) -> DictConfig:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose(config_name, list(overrides), return_hydra_config=True)


def _explanation(config_name: str, overrides: list[str], error: Exception) -> str:
    """Return the error message for an exception that composing raised."""
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    given, error = _at_fault(config_name, overrides, error)
    words = first_lines(error)
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error) or f"{given}: {words}"
    if _key(given) in groups() and "No match in the defaults list" in words:
        return f"{given}: none of the selected configs has a {_key(given)} group to override"
    if _key(given) in groups() and not words.startswith("Ambiguous value"):
        return f"{given}: must be one of {', '.join(groups()[_key(given)])}"
    key, _, value = given.partition("=")
    if words.startswith("Ambiguous value"):
        sweep = (
            f"to run each, add -m: python -m src.{config_name} -m {given}; "
            if config_name == "train"
            else ""
        )
        return f"{given} gives several values: {sweep}a list is written {key}=[{value}]"
    if re.search(r"Could not override|Key '|Could not find '", words):
        key = key.lstrip("+~")
        node = key.split(".")[1] if key.startswith(("hydra.launcher.", "hydra.sweeper.")) else ""
        if node and not any(o.startswith(f"hydra/{node}=") for o in overrides):
            choices = ", ".join(
                name for name, extra in HYDRA_GROUPS[f"hydra/{node}"].items() if extra
            )
            return f"unknown key '{key}': it needs hydra/{node}=... ({choices})"
        return (
            f"unknown key '{key}' in {given}{nearest(key, _known(config_name, overrides, given))}"
        )
    if words.startswith("Error merging override") and isinstance(error.__cause__, Exception):
        words = first_lines(error.__cause__)
    return f"{given} cannot be used: {words}" if given else words


def _unreadable(error: OverrideParseException) -> str:
    return (
        f"cannot read {error.override}: an override is written key=value "
        "(quote characters that are special to the shell)"
    )


def _at_fault(config_name: str, overrides: list[str], error: Exception) -> tuple[str, Exception]:
    """Return the override that makes composing fail, and the exception.

    Group choices are applied first. The override is the last of the shortest list that fails.
    """
    row = sorted(overrides, key=lambda override: not is_group(_key(override)))
    low, high = 0, len(row)  # `low` of them compose, `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _composed(config_name, row[:middle])
            low = middle
        except Exception as first:  # as in `compose`: any exception type
            high, error = middle, first
    return (row[high - 1] if row else ""), error


def _key(override: str) -> str:
    return override.split("=")[0].lstrip("+~").split("@")[0]


def _known(config_name: str, overrides: list[str], given: str) -> list[str]:
    """Return the keys and groups that exist with the group choices among `overrides`."""
    chosen = [o for o in overrides if o != given and is_group(_key(o))]
    try:
        plain = OmegaConf.to_container(_composed(config_name, chosen), resolve=False)
    except Exception:  # one of these choices has a mistake
        plain = {}
    assert isinstance(plain, dict)
    hydra_node = plain.pop("hydra", {})
    if _key(given).startswith("hydra."):
        return paths(hydra_node, "hydra.")
    there = [group for group in groups() if group.split("/")[0] in settings_of(config_name)]
    return sorted({*paths(plain), *there, "experiment"})


def paths(node: dict[Any, Any], path: str = "") -> list[str]:
    """Return the dotted names of all keys, including those of nodes."""
    found = []
    for key, child in node.items():
        found.append(f"{path}{key}")
        found += paths(child, f"{path}{key}.") if isinstance(child, dict) else []
    return found


def nearest(key: str, known: list[str]) -> str:
    """Return '; did you mean X?', or an empty text.

    X has the same last word and preferably the same first word as `key`. Otherwise it is the most
    similar name.
    """
    first, last = re.split(r"[./]", key)[0], key.rpartition(".")[2]
    known = [name for name in known if not key.startswith(f"{name}.")]
    same = [name for name in known if name.rpartition(".")[2] == last]
    below = [name for name in same if name.startswith(f"{first}.")] or same
    if below:
        return f"; did you mean {min(below, key=lambda name: name.count('.'))}?"
    return near(key, known) or near(last, known)


def _unknown_choice(error: MissingConfigException) -> str | None:
    group, _, name = str(error.missing_cfg_file or "").rpartition("/")
    options = error.options or groups().get(group, [])
    choices = [choice for choice in options if not choice.startswith("_")]
    if not (group and choices):
        return None
    if group in HYDRA_GROUPS:
        if extra := HYDRA_GROUPS[group].get(name):
            return (
                f"{group}={name} needs hydra-{extra}-launcher, which is not installed: "
                f"pip install '.[{extra}]'"
            )
        choices = list(HYDRA_GROUPS[group])
    hint = near(name, choices)
    allowed = f"{' Allowed' if hint else '; allowed'} are {', '.join(choices)}"
    return f"{group}={name}: no such choice{hint}{allowed}"


def first_lines(error: Exception) -> str:
    """Return the first two lines of the message of a library's exception, as one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__
