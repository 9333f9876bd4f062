"""Check every target, setting and value of a config against signatures, without importing them."""

import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Annotated, Any, get_args, get_origin

from src.config import library
from src.config.annotations import resolve
from src.config.commands import COMMANDS, AugmentByModel, types_of
from src.config.compose import paths
from src.config.kinds import COLLECTIONS, NODES, Kind, is_of_kind, kind_of
from src.config.schema import check_value, has_mark, shown
from src.config.signatures import Parameter, Signature, signature
from src.core.errors import UserError, near
from src.core.types import Mark

AUGMENT = "src.data.transforms.augment.Augment"  # takes the plain settings of the group `augment`


class UnknownSetting(UserError):
    """A setting that its target does not have.

    Args:
        path: dotted name of the node.
        key: the setting.
        target: dotted name of the class or function that the node builds.
        names: the settings that it has.
    """

    def __init__(self, path: str, key: str, target: str, names: list[str]) -> None:
        super().__init__(f"unknown setting {path}.{key}: {target} has no such parameter")
        self.path, self.names = path, names
        self.nearest = near(key, names).replace("mean ", f"mean {path}.")
        self.key = key

    def suggestion(self, cfg: dict[str, Any]) -> str:
        """Return the nearest setting of the target, else the same key elsewhere, else all."""
        first = self.path.partition(".")[0]
        same = [path for path in paths({first: cfg[first]}) if path.endswith(f".{self.key}")]
        elsewhere = [path for path in same if path != f"{self.path}.{self.key}"]
        if self.nearest or not elsewhere:
            return self.nearest or f"; its parameters are {', '.join(self.names)}"
        return f"; did you mean {min(elsewhere, key=lambda path: path.count('.'))}?"


def check_targets(cfg: dict[str, Any], command: str) -> None:
    """Raise UserError for the first wrong target, setting or value in a config.

    A target must be of the kind that its node takes. It must have every setting that the config
    gives, and the config must give every setting without a default. A value must be of the type
    that the annotation of its parameter means.

    Args:
        cfg: the config as plain dicts, lists and values.
        command: the command that uses it, by the name of its file in conf/.
    """
    own = types_of(COMMANDS[command])
    for key in sorted(cfg, key=lambda key: key not in own):  # groups refer to a command's own
        if key in own:
            _check_plain(key, cfg[key], own[key])
        elif key in NODES:
            check_node(key, cfg[key], NODES[key])
        elif key in COLLECTIONS:
            _check_collection(key, cfg[key], COLLECTIONS[key])
        else:
            raise UserError(f"unknown key '{key}'{near(key, [*own, *NODES, *COLLECTIONS])}")


def _check_collection(path: str, nodes: Any, kind: Kind) -> None:
    if not isinstance(nodes, dict | None):
        raise UserError(f"{path}={shown(nodes)}: must map names to {kind.description}, or be null")
    known = signature(AUGMENT) if path == "augment" else None
    types = {name: type_of(known, AUGMENT, name) for name in known.parameters} if known else {}
    types |= types_of(AugmentByModel) if known else {}
    for name, node in (nodes or {}).items():
        if name in types and name != "transforms":
            _check_plain(f"{path}.{name}", node, types[name])
        else:
            check_node(f"{path}.{name}", node, kind)


def _check_plain(path: str, value: Any, kind: Any, target: str = "") -> None:
    """Raise UserError unless `value` is of the type `kind`."""
    if get_origin(kind) is Annotated:
        kind = kind if not is_dataclass(get_args(kind)[0]) else get_args(kind)[0]
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, dict):
        types = types_of(kind)
        for name in value:
            if name not in types:
                raise UserError(f"unknown key '{path}.{name}'{near(str(name), list(types))}")
        for name, child_kind in types.items():
            _check_plain(f"{path}.{name}", value.get(name), child_kind)
    elif isinstance(value, dict) and get_origin(kind) not in (dict, Mapping):
        raise UserError(f"{path}={shown(value)}: must be a single value, not a mapping")
    else:
        check_value(path, value, kind, target)


def check_node(path: str, node: Any, kind: Kind) -> None:
    """Raise UserError unless `node` names a class of the kind and fits its signature."""
    if node is None and kind.optional:
        return
    if not isinstance(node, dict):
        raise UserError(
            f"{path}={shown(node)}: must be a mapping with `_target_` ({kind.description}) "
            "and its settings"
        )
    target = node.get("_target_")
    if kind.library is not None and not str(target).startswith("src."):
        kind = kind.library
    if target is None:
        raise UserError(f"{path}._target_ is missing: must name {kind.description}")
    known = signature(target) if re.fullmatch(kind.names, str(target)) else None
    if known is None or not is_of_kind(known, str(target), kind):
        raise UserError(
            f"{path}._target_={shown(target)} is not allowed: must name {kind.description}"
        )
    partial = node.get("_partial_", False)
    wanted = kind.partial if kind.partial is None or not known.has_call else False
    if not isinstance(partial, bool) or wanted not in (None, partial):
        allowed = "true or false" if wanted is None else str(wanted).lower()
        raise UserError(f"{path}._partial_={shown(partial)}: must be {allowed} for {target}")
    supplied = _supplied(known, kind)
    for key, child in node.items():
        if key not in ("_target_", "_partial_"):
            _check_setting(path, str(key), child, known, kind, str(target))
    for name, parameter in known.parameters.items():
        if parameter.required and name not in (*node, *supplied) and kind.supplied is not None:
            raise UserError(f"{path}.{name} is missing: {target} needs it")


def _check_setting(
    path: str, key: str, value: Any, known: Signature, kind: Kind, target: str
) -> None:
    """Check one setting of the node at `path`, whose `target` has the signature `known`."""
    supplied = _supplied(known, kind)
    if key in supplied:
        raise UserError(f"{path}.{key} cannot be set: the program sets it itself")
    names = [name for name in known.parameters if name not in supplied]
    if key not in names and not known.accepts_any_keyword:
        raise UnknownSetting(path, key, target, names)
    annotation = known.parameters.get(key)
    child_kind = kind_of(annotation.annotation, annotation.module) if annotation else None
    if child_kind is None:
        value_type = type_of(known, target, key)
        _check_plain(f"{path}.{key}", value, value_type, target)
    else:
        check_node(f"{path}.{key}", value, child_kind)


def type_of(known: Signature, target: str, key: str) -> Any:
    """Return the type that the class or function `target` takes as `key`."""
    listed = library.type_of(target, key)
    parameter = known.parameters.get(key, Parameter("", known.module, False))
    return resolve(parameter.annotation, parameter.module) if listed is None else listed


def marked(target: str, *marks: Mark) -> list[str]:
    """Return the dotted names of the settings of `target` whose annotation has one of `marks`.

    They include the settings of a parameter that takes a class of src (`transfer: Transfer`).
    """
    names: list[str] = []
    if (known := signature(target)) is None:
        return names
    for key, parameter in known.parameters.items():
        kind = kind_of(parameter.annotation, parameter.module)
        if kind is not None and kind.description.startswith("src."):
            names += [f"{key}.{name}" for name in marked(kind.description, *marks)]
        elif any(has_mark(type_of(known, target, key), mark) for mark in marks):
            names.append(key)
    return names


def _supplied(known: Signature, kind: Kind) -> list[str]:
    """Return the names of the parameters that no config may give."""
    if known.has_call:  # the config describes an instance, which the program then calls
        return []
    if isinstance(kind.supplied, int):
        return list(known.parameters)[: kind.supplied]
    return ["params"] if kind.supplied is None else list(kind.supplied)
