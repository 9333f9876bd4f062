"""What a `_target_` may name at each place of a config, and which settings it takes there: checked without importing it.

A parameter's annotation says what may stand there: `optimizer: Callable[..., torch.optim.Optimizer]` is an optimizer that
`_partial_` leaves open, `net: nn.Module` a net, any other a plain value.
"""

import re
from dataclasses import dataclass
from typing import Any

from src.config.signatures import Signature, definition, signature
from src.core.errors import UserError, near


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
        extra: settings of this node that others take.
    """

    words: str
    names: str
    base: str | None = None
    returns: str | None = None
    partial: bool | None = False
    supplied: int | tuple[str, ...] | None = ()
    extra: tuple[str, ...] = ()


DATA_EXTRA = (
    "epochs",
    "log_every_n_steps",
    "samples_every_n_batches",
)  # Trainer, callbacks take them
NODES = {
    "data": Kind("a data set of src.data", r"src\.data\.sets\.\w+\.\w+", "LightningDataModule",
                 supplied=("labelled",), extra=DATA_EXTRA),
    "model": Kind("a model of src.models", r"src\.models\.\w+\.\w+", "LightningModule"),
    "trainer": Kind("pytorch_lightning.Trainer", r"pytorch_lightning\.Trainer"),
}  # fmt: skip
COLLECTIONS = {
    "callbacks": Kind(
        "callbacks of src.callbacks or pytorch_lightning.callbacks",
        r"src\.callbacks\.\w+\.\w+|pytorch_lightning\.callbacks\.[A-Z]\w*",
        "Callback",
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
MODEL_SETTINGS = ("run", "size", "to")  # but these are for augment=model
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


def check_targets(cfg: dict[str, Any]) -> None:
    """Raise UserError for the first node of the plain config `cfg` that is not what its place takes, or lacks a setting that
    its target needs, or has one that it does not take."""
    for key, node in cfg.items():
        if key in NODES:
            _check_node(key, node, NODES[key])
        elif key in COLLECTIONS:
            _check_collection(key, node, COLLECTIONS[key])
        else:
            for name, child in node.items() if isinstance(node, dict) else ():
                _check_plain(f"{key}.{name}", child)


def _check_collection(path: str, nodes: Any, kind: Kind) -> None:
    if not isinstance(nodes, dict | None):
        raise UserError(f"{path}={shown(nodes)}: it takes {kind.words} by name, or null")
    transforms = signature(AUGMENT) if path == "augment" else None
    plain = (*transforms.parameters, *MODEL_SETTINGS) if transforms else ()
    for name, node in (nodes or {}).items():
        if name not in plain:
            _check_node(f"{path}.{name}", node, kind)
        else:
            _check_plain(f"{path}.{name}", node)


def _check_plain(path: str, value: Any) -> None:
    if isinstance(value, dict):
        raise UserError(f"{path}={shown(value)}: it takes one value, not settings by name")


def _check_node(path: str, node: Any, kind: Kind) -> None:
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
    for key, child in node.items():
        if key in ("_target_", "_partial_"):
            continue
        if key not in (*known.parameters, *kind.extra) and not known.more:
            names = [str(name) for name in (*known.parameters, *kind.extra)]
            raise UserError(
                f"unknown setting {path}.{key}: {target} takes none{near(str(key), names)}"
            )
        if (child_kind := kind_of(known.parameters.get(key, ""), known.module)) is None:
            _check_plain(f"{path}.{key}", child)
        else:
            _check_node(f"{path}.{key}", child, child_kind)
    if missing := [name for name in _needed(known, kind) if name not in node]:
        raise UserError(f"{path}.{missing[0]} is missing: {target} needs it")


def _of_kind(known: Signature, target: str, kind: Kind) -> bool:
    """Is a target whose name fits also what `kind` asks for? A class that is no more than a Protocol is not."""
    if not target.startswith("src."):
        return True
    if known.module != target.rpartition(".")[0] or "Protocol" in known.bases:
        return False
    if kind.base and known.bases:
        return kind.base in known.bases
    return known.called or kind.returns in (None, known.returns)


def _needed(known: Signature, kind: Kind) -> list[str]:
    """The parameters that the config must give."""
    if kind.supplied is None:
        return []
    names = list(known.parameters)
    supplied = names[: kind.supplied] if isinstance(kind.supplied, int) else kind.supplied
    return [name for name in names if name in known.required and name not in supplied]


def kind_of(annotation: str, module: str) -> Kind | None:
    """What a parameter of this annotation in `module` takes; None for a plain value."""
    if found := re.fullmatch(r"Callable\[(\.\.\.|\[.*\]), (.+)\]", annotation):
        given, result = found.groups()
        count = None if given == "..." else len([word for word in given[1:-1].split(",") if word])
        kind = RESULTS.get(result, Kind(f"what returns {result}", r"src\.\w+(\.\w+)+"))
        return Kind(kind.words, kind.names, kind.base, kind.returns, partial=True, supplied=count)
    if annotation == "nn.Module":
        return NET
    if re.fullmatch(r"[A-Z]\w+", annotation) and (found_at := definition(f"{module}.{annotation}")):
        name = f"{found_at[0]}.{annotation}"
        if name.startswith("src."):
            return Kind(name, re.escape(name))
    return None


def shown(value: Any) -> str:
    """A value as a user would write it, short."""
    if isinstance(value, dict):
        return "{...}"
    yaml = {"None": "null", "True": "true", "False": "false"}
    words = value if isinstance(value, str) else yaml.get(str(value), str(value))
    return words if len(words) <= 60 else f"{words[:57]}..."
