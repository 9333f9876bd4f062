"""What a `_target_` may name at each place of a config, and which settings it takes there: checked without importing it.

A parameter's annotation says what may stand there: `optimizer: Callable[..., torch.optim.Optimizer]` is an optimizer that
`_partial_` leaves open, `net: nn.Module` a net, any other a value that `src.config.schema` checks.
"""

import ast
import re
from dataclasses import dataclass, is_dataclass, replace
from typing import Annotated, Any, get_args, get_origin

from src.config import library
from src.config.annotations import resolve
from src.config.commands import COMMANDS, AugmentByModel, types_of
from src.config.compose import paths
from src.config.schema import check_value, has_mark, shown
from src.config.signatures import Parameter, Signature, definition, signature
from src.core.errors import UserError, near
from src.core.types import Mark


@dataclass(frozen=True)
class Kind:
    """What may stand at a place of a config.

    Attributes:
        words: its name in an error.
        names: the pattern of the dotted names that are allowed. Each fixes how many dots there are: a longer name would lead
            through a module to what that imports.
        base: the class that it derives from, where it is a class of this project.
        returns: the annotation of its result, where it is a function of this project.
        partial: must `_partial_` leave it open (True), may it not (False), or either (None)?
        supplied: arguments that the code adds: so many positional ones, their names, or None for any.
        optional: may null stand here?
        resumable: may a resumed run change all settings here?
    """

    words: str
    names: str
    base: str | None = None
    returns: str | None = None
    partial: bool | None = False
    supplied: int | tuple[str, ...] | None = ()
    optional: bool = False
    resumable: bool = False


NODES = {
    "data": Kind("a data set of src.data", r"src\.data\.sets\.\w+\.\w+", "DataModule",
                 supplied=("labelled",)),
    "model": Kind("a model of src.models", r"src\.models\.\w+\.\w+", "Family"),
    "trainer": Kind("pytorch_lightning.Trainer", r"pytorch_lightning\.Trainer", supplied=(
        "logger", "callbacks", "plugins", "default_root_dir", "enable_progress_bar", "enable_model_summary",
        "enable_checkpointing", "use_distributed_sampler")),
}  # fmt: skip
COLLECTIONS = {
    "callbacks": Kind(
        "callbacks of src.callbacks or pytorch_lightning.callbacks",
        r"src\.callbacks\.\w+\.\w+|pytorch_lightning\.callbacks\.[A-Z]\w*",
        "Callback",
        resumable=True,
    ),
    "logger": Kind(
        "loggers of src.callbacks.loggers",
        r"src\.callbacks\.loggers\.\w+",
        "Logger",
        partial=True,
        supplied=("folder", "batches_done"),
    ),
    "augment": Kind(
        "transforms of src.data", r"src\.data\.transforms\.(geometric|pixelwise|mixing)\.\w+"
    ),
}
AUGMENT = "src.data.transforms.augment.Augment"  # takes what of `augment` is no transform
NETS = (
    r"src\.nets\.\w+\.\w+|torch\.nn\.[A-Z]\w*|torchvision\.models\.(alexnet|googlenet|[a-z]+\d\w*)"
)
NET = Kind("a net of src.nets, torch.nn or torchvision.models", NETS, "Module")
RESULTS = {  # of a parameter that is a Callable
    "torch.optim.Optimizer": Kind(
        "an optimizer of torch.optim or src.optim.muon",
        r"torch\.optim\.[A-Z]\w*|src\.optim\.muon\.[A-Z]\w*",
        "Optimizer",
    ),
    "float": Kind(
        "a schedule of src.optim.schedules", r"src\.optim\.schedules\.\w+", returns="float"
    ),
    "Tensor": Kind("a loss of src.losses", r"src\.losses\.\w+", returns="Tensor"),
    "nn.Module": NET,
}


class UnknownSetting(UserError):
    """A setting that its target does not have.

    Args:
        path: dotted name of the node.
        key: the setting.
        target: dotted name of the node's class or function.
        names: the settings that it has.
    """

    def __init__(self, path: str, key: str, target: str, names: list[str]) -> None:
        super().__init__(f"unknown setting {path}.{key}: {target} has no such parameter")
        self.path, self.names = path, names
        self.nearest = near(key, names).replace("mean ", f"mean {path}.")
        self.key = key

    def suggestion(self, cfg: dict[str, Any]) -> str:
        """Return the nearest setting of the target, else the same one elsewhere in `cfg`, else what the target takes."""
        first = self.path.partition(".")[0]
        same = [path for path in paths({first: cfg[first]}) if path.endswith(f".{self.key}")]
        elsewhere = [path for path in same if path != f"{self.path}.{self.key}"]
        if self.nearest or not elsewhere:
            return self.nearest or f"; it takes {', '.join(self.names)}"
        return f"; did you mean {min(elsewhere, key=lambda path: path.count('.'))}?"


def check_targets(cfg: dict[str, Any], command: str) -> None:
    """Raise UserError for the first value in the plain config `cfg` of a command that its place does not take.

    That is a `_target_` of another kind, a setting that the target does not have or lacks, or a value that the annotation of
    its parameter excludes.
    """
    own = types_of(COMMANDS[command])
    for key in sorted(cfg, key=lambda key: key not in own):  # groups refer to the command's own
        if key in own:
            _check_plain(key, cfg[key], own[key])
        elif key in NODES:
            _check_node(key, cfg[key], NODES[key])
        elif key in COLLECTIONS:
            _check_collection(key, cfg[key], COLLECTIONS[key])
        else:
            raise UserError(f"unknown key '{key}'{near(key, [*own, *NODES, *COLLECTIONS])}")


def _check_collection(path: str, nodes: Any, kind: Kind) -> None:
    if not isinstance(nodes, dict | None):
        raise UserError(f"{path}={shown(nodes)}: it takes {kind.words} by name, or null")
    known = signature(AUGMENT) if path == "augment" else None
    types = {name: type_of(known, AUGMENT, name) for name in known.parameters} if known else {}
    types |= types_of(AugmentByModel) if known else {}
    for name, node in (nodes or {}).items():
        if name in types and name != "transforms":
            _check_plain(f"{path}.{name}", node, types[name])
        else:
            _check_node(f"{path}.{name}", node, kind)


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
    elif isinstance(value, dict) and get_origin(kind) is not dict:
        raise UserError(f"{path}={shown(value)}: it takes one value, not settings by name")
    else:
        check_value(path, value, kind, target)


def _check_node(path: str, node: Any, kind: Kind) -> None:
    if node is None and kind.optional:
        return
    if not isinstance(node, dict):
        raise UserError(f"{path}={shown(node)}: it takes {kind.words}, with its settings by name")
    target = node.get("_target_")
    if target is None:
        raise UserError(f"{path}._target_ is missing: {path} takes {kind.words}")
    known = signature(target) if re.fullmatch(kind.names, str(target)) else None
    if known is None or not _of_kind(known, str(target), kind):
        raise UserError(
            f"{path}._target_={shown(target)} is not allowed: {path} takes {kind.words}"
        )
    partial = node.get("_partial_", False)
    wanted = kind.partial if kind.partial is None or not known.called else False
    if not isinstance(partial, bool) or wanted not in (None, partial):
        allowed = "true or false" if wanted is None else str(wanted).lower()
        raise UserError(f"{path}._partial_={shown(partial)}: with {target} it is {allowed}")
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
    """Check the setting `key` of the node at `path`, whose target is `known`."""
    supplied = _supplied(known, kind)
    if key in supplied:
        raise UserError(f"{path}.{key} cannot be set: the program sets it itself")
    names = [name for name in known.parameters if name not in supplied]
    if key not in names and not known.more:
        raise UnknownSetting(path, key, target, names)
    annotation = known.parameters.get(key)
    child_kind = kind_of(annotation.annotation, annotation.module) if annotation else None
    if child_kind is None:
        value_type = type_of(known, target, key)
        _check_plain(f"{path}.{key}", value, value_type, target)
    else:
        _check_node(f"{path}.{key}", value, child_kind)


def type_of(known: Signature, target: str, key: str) -> Any:
    """Return the type that the class or function `target` takes as `key`."""
    listed = library.type_of(target, key)
    parameter = known.parameters.get(key, Parameter("", known.module, False))
    return resolve(parameter.annotation, parameter.module) if listed is None else listed


def marked(target: str, *marks: Mark) -> list[str]:
    """Return the settings of `target` whose annotation has any of `marks`, by dotted names.

    Those of a parameter that takes a class of src, as `transfer: Transfer` does, are included.
    """
    names: list[str] = []
    if (known := signature(target)) is None:
        return names
    for key, parameter in known.parameters.items():
        kind = kind_of(parameter.annotation, parameter.module)
        if kind is not None and kind.words.startswith("src."):
            names += [f"{key}.{name}" for name in marked(kind.words, *marks)]
        elif any(has_mark(type_of(known, target, key), mark) for mark in marks):
            names.append(key)
    return names


def _supplied(known: Signature, kind: Kind) -> list[str]:
    """Names of the parameters that no config may give."""
    if known.called:  # its instances are what the place takes
        return []
    if isinstance(kind.supplied, int):
        return list(known.parameters)[: kind.supplied]
    return ["params"] if kind.supplied is None else list(kind.supplied)


def _of_kind(known: Signature, target: str, kind: Kind) -> bool:
    """Is a target whose name fits also what `kind` asks for? A class that is no more than a Protocol is not."""
    if not target.startswith("src."):
        return True
    if known.module != target.rpartition(".")[0] or "Protocol" in known.bases:
        return False
    if kind.base and (known.bases or kind.words.endswith(f".{kind.base}")):
        return kind.base in known.bases or target == kind.words
    return known.called or kind.returns in (None, known.returns)


def kind_of(annotation: str, module: str) -> Kind | None:
    """What a parameter of this annotation in `module` takes; None for a plain value."""
    if annotation.endswith(" | None"):
        kind = kind_of(annotation.removesuffix(" | None"), module)
        return kind and replace(kind, optional=True)
    if found := re.fullmatch(r"Callable\[(\.\.\.|\[.*\]), (.+)\]", annotation):
        given, result = found.groups()
        count = None if given == "..." else len([word for word in given[1:-1].split(",") if word])
        kind = RESULTS.get(result, Kind(f"what returns {result}", r"src\.\w+(\.\w+)+"))
        return replace(kind, partial=True, supplied=count)
    if annotation == "nn.Module":
        return NET
    if re.fullmatch(r"[A-Z]\w+", annotation) and (found_at := definition(f"{module}.{annotation}")):
        name, node = f"{found_at[0]}.{annotation}", found_at[1]
        abstract = isinstance(node, ast.ClassDef) and "ABC" in map(ast.unparse, node.bases)
        if name.startswith("src."):
            words = f"a class that derives from {name}" if abstract else name
            return Kind(words, r"src(\.\w+)+", base=annotation)
    return None
