"""Which classes and functions each node of a config may name.

The annotation of a parameter says what it takes: `optimizer: Callable[..., torch.optim.Optimizer]`
takes an optimizer with `_partial_: true`, `net: nn.Module` takes a network, `loss: GANLoss` takes a
class that derives from it. Any other annotation takes a plain value.
"""

import ast
import re
from dataclasses import dataclass, replace

from src.config.signatures import Signature, definition


@dataclass(frozen=True)
class Kind:
    """The classes and functions that a node of a config may name as its `_target_`.

    Attributes:
        description: what they are, for an error message.
        names: a pattern for their dotted names. It allows module.name only: `src.nets.fc.math.prod`
            would reach what the module imports.
        base: the base class of a class of this project.
        returns: the annotation of the result of a function of this project.
        partial: whether `_partial_` must be true (True), false (False), or may be either (None).
        supplied: arguments that the program adds to those of the config: their names, such as
            ("folder",), or how many positional ones. None: unknown, so no argument is missing.
        optional: whether null is allowed.
        resumable: whether a resumed run may change all settings of the node.
        library: the kind of targets outside this project; None: they are of this kind, too.
    """

    description: str
    names: str
    base: str | None = None
    returns: str | None = None
    partial: bool | None = False
    supplied: int | tuple[str, ...] | None = ()
    optional: bool = False
    resumable: bool = False
    library: "Kind | None" = None


NODES = {
    "data": Kind("a data set of src.data", r"src\.data\.sets\.\w+\.\w+", "DataModule",
                 supplied=("labeled",)),
    "model": Kind("a model of src.models", r"src\.models\.\w+\.\w+", "Family"),
    "trainer": Kind("pytorch_lightning.Trainer", r"pytorch_lightning\.Trainer", supplied=(
        "logger", "callbacks", "plugins", "default_root_dir", "enable_progress_bar",
        "enable_model_summary", "profiler", "enable_checkpointing", "use_distributed_sampler")),
}  # fmt: skip
SWEEPER = Kind("a sweeper of src.sweep", r"src\.sweep\.search\.Search", supplied=(
    "space", "folder", "wanted", "first_seed", "pruner_node"))  # fmt: skip
COLLECTIONS = {
    "callbacks": Kind(
        "callbacks of src.callbacks or pytorch_lightning.callbacks",
        r"src\.callbacks\.\w+\.\w+|pytorch_lightning\.callbacks\.[A-Z]\w*",
        "Callback",
        resumable=True,
    ),
    "logger": Kind(
        "loggers of src.callbacks or pytorch_lightning.loggers",
        r"src\.callbacks\.(loggers|\w+_logger)\.\w+",
        "Logger",
        partial=True,
        supplied=("folder", "batches_done"),
        library=Kind(
            "loggers of src.callbacks or pytorch_lightning.loggers",
            r"pytorch_lightning\.loggers\.[A-Z]\w*",
        ),
    ),
    "augment": Kind(
        "transforms of src.data", r"src\.data\.transforms\.(geometric|pixelwise|mixing)\.\w+"
    ),
}
NETS = (
    r"src\.nets\.\w+\.\w+|torch\.nn\.[A-Z]\w*|torchvision\.models\.(alexnet|googlenet|[a-z]+\d\w*)"
)
NET = Kind("a network of src.nets, torch.nn or torchvision.models", NETS, "Module")
RESULTS = {  # RESULT -> the kind that a parameter annotated Callable[..., RESULT] takes
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
    "BaseSampler": Kind("a sampler of optuna.samplers", r"optuna\.samplers\.[A-Z]\w*"),
    "BasePruner": Kind("a pruner of optuna.pruners", r"optuna\.pruners\.[A-Z]\w*"),
}


def kind_of(annotation: str, module: str) -> Kind | None:
    """Return the kind that a parameter with this annotation takes; None for a plain value."""
    if annotation.endswith(" | None"):
        kind = kind_of(annotation.removesuffix(" | None"), module)
        return kind and replace(kind, optional=True)
    if found := re.fullmatch(r"Callable\[(\.\.\.|\[.*\]), (.+)\]", annotation):
        given, result = found.groups()
        count = None if given == "..." else len([word for word in given[1:-1].split(",") if word])
        kind = RESULTS.get(result, Kind(f"a callable that returns {result}", r"src\.\w+(\.\w+)+"))
        return replace(kind, partial=True, supplied=count)
    if annotation == "nn.Module":
        return NET
    if re.fullmatch(r"[A-Z]\w+", annotation) and (found_at := definition(f"{module}.{annotation}")):
        name, node = f"{found_at[0]}.{annotation}", found_at[1]
        abstract = isinstance(node, ast.ClassDef) and "ABC" in map(ast.unparse, node.bases)
        if name.startswith("src."):
            description = f"a class that derives from {name}" if abstract else name
            return Kind(description, r"src(\.\w+)+", base=annotation)
    return None


def is_of_kind(known: Signature, target: str, kind: Kind) -> bool:
    """Return whether `target`, whose name matches, is of the kind; a Protocol is not."""
    if not target.startswith("src."):
        return True
    if known.module != target.rpartition(".")[0] or "Protocol" in known.bases:
        return False
    if kind.base and (known.bases or kind.description.endswith(f".{kind.base}")):
        return kind.base in known.bases or target == kind.description
    return known.has_call or kind.returns in (None, known.returns)
