"""Which package of src may import which: the rule of CONTRIBUTING.md."""

import ast

import pytest

from tests.conftest import ROOT

LAYERS = [  # each imports its own layer and those before it
    {"core"},
    {"nets", "losses", "metrics", "viz", "optim"},
    {"data", "models", "callbacks"},
    {"config", "engine"},
    {"bench", "nanonet", "runs", "serve", "sweep", "commands"},
]
LAYER_OF = {package: layer for layer, packages in enumerate(LAYERS) for package in packages}
NOT_BELOW = {"data": {"models", "callbacks"}, "models": {"callbacks"}, "config": {"engine"}}


def package_of(module):
    """Return the package of `src.PACKAGE.MODULE`; files at the top are commands, except losses."""
    name = module.split(".")[1]
    return name if (ROOT / "src" / name).is_dir() or name == "losses" else "commands"


def imports(path):
    """Yield the modules of src that a file imports, also inside functions, but not for types."""
    tree = ast.parse(path.read_text())
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in typing_only:
            if node.module == "src":
                names = [alias.name for alias in node.names]
                yield from (f"src.{name}" for name in names if name.islower())  # not a constant
            elif (node.module or "").startswith("src."):
                yield node.module


@pytest.mark.parametrize(
    "path", sorted((ROOT / "src").rglob("[!_]*.py")), ids=lambda path: path.stem
)
def test_imports_lead_downward(path):
    package = package_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module in imports(path):
        other = package_of(module)
        assert LAYER_OF[other] <= LAYER_OF[package], f"{package} must not import {module}"
        assert other not in NOT_BELOW.get(package, ()), f"{package} must not import {module}"
