"""What a class or function takes, read from its source by `ast`: nothing is imported, so that torch costs no time."""

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Signature:
    """What a class or function takes.

    Attributes:
        parameters: its parameters in order, each with its annotation.
        required: those without a default.
        more: does it take others too (a library's `**kwargs`)?
        module: where it is defined; names in annotations are that module's.
        bases: names of the classes that it derives from; empty for a function.
        returns: the annotation of a function's result.
        called: is it a class whose instances are called?
    """

    parameters: dict[str, str]
    required: frozenset[str]
    more: bool
    module: str
    bases: frozenset[str]
    returns: str
    called: bool


@cache
def signature(target: str) -> Signature | None:
    """What the class or function with this dotted name takes; None where there is none."""
    found = definition(target)
    if found is None:
        return None
    module, node = found
    if isinstance(node, ast.FunctionDef):
        parameters, required, more = _parameters(node.args, skip=0)
        returns = ast.unparse(node.returns) if node.returns else ""
        return Signature(parameters, required, more, module, frozenset(), returns, False)
    parents = [ast.unparse(base) for base in node.bases]
    known = [parent for base in parents if (parent := _parent(base, module))]
    names = {base.rpartition(".")[2] for base in parents}.union(*(parent.bases for parent in known))
    methods = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    called = "__call__" in methods or any(parent.called for parent in known)
    if "__init__" in methods:
        parameters, required, more = _parameters(methods["__init__"].args, skip=1)
        if more and known and module.startswith("src."):  # **settings are the parent's
            rest = known[0].parameters.keys() - _handed_on(methods["__init__"])
            parameters |= {
                name: known[0].parameters[name] for name in known[0].parameters if name in rest
            }
            required, more = required | (known[0].required & rest), known[0].more
    elif any("dataclass" in ast.unparse(word) for word in node.decorator_list):
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
        parameters = {ast.unparse(item.target): ast.unparse(item.annotation) for item in fields}
        required = frozenset(ast.unparse(item.target) for item in fields if item.value is None)
        more = False
    elif known:
        parameters, required, more = known[0].parameters, known[0].required, known[0].more
    else:
        parameters, required, more = (
            {},
            frozenset(),
            bool(parents) and not module.startswith("src."),
        )
    return Signature(parameters, required, more, module, frozenset(names), "", called)


@cache
def class_attribute(target: str, name: str) -> Any:
    """Return the attribute `name` of the class with the dotted name `target`, or of the nearest class that it derives from.

    None where there is none. Its value must be written with literals and names of constants of the same module.
    """
    module, node = definition(target) or ("", None)
    if not isinstance(node, ast.ClassDef):
        return None
    for item in node.body:
        if (value := _assigned(item, name)) is not None:
            return _literal(value, module)
    for base in node.bases:
        first, _, rest = ast.unparse(base).partition(".")
        parent = _imported(module, first) or f"{module}.{first}"
        inherited = class_attribute(f"{parent}.{rest}" if rest else parent, name)
        if inherited is not None:
            return inherited
    return None


def _assigned(statement: ast.stmt, name: str) -> ast.expr | None:
    """The value that `statement` gives to the variable `name`."""
    if isinstance(statement, ast.AnnAssign):
        return statement.value if ast.unparse(statement.target) == name else None
    if isinstance(statement, ast.Assign):
        return statement.value if name in map(ast.unparse, statement.targets) else None
    return None


def _literal(value: ast.expr, module: str) -> Any:
    if isinstance(value, ast.Name):
        constants = [found for item in _body(module) if (found := _assigned(item, value.id))]
        return _literal(constants[-1], module)
    return ast.literal_eval(value)


def _parent(base: str, module: str) -> Signature | None:
    """The signature of a base class that `module` calls `base`."""
    first, _, rest = base.partition(".")
    name = _imported(module, first) or f"{module}.{first}"
    return signature(f"{name}.{rest}" if rest else name)


def _handed_on(init: ast.FunctionDef) -> set[str | None]:
    """The arguments that `__init__` gives its parent's by name."""
    calls = [node for node in ast.walk(init) if isinstance(node, ast.Call)]
    above = [call for call in calls if ast.unparse(call.func) == "super().__init__"]
    return {keyword.arg for call in above for keyword in call.keywords}


def _parameters(args: ast.arguments, skip: int) -> tuple[dict[str, str], frozenset[str], bool]:
    positional = [*args.posonlyargs, *args.args][skip:]
    without = len(positional) - len(args.defaults)
    bare = [
        arg
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
        if default is None
    ]
    parameters = {
        arg.arg: ast.unparse(arg.annotation) if arg.annotation else ""
        for arg in (*positional, *args.kwonlyargs)
    }
    required = frozenset(arg.arg for arg in (*positional[: max(without, 0)], *bare))
    return parameters, required, args.kwarg is not None


@cache
def definition(name: str) -> tuple[str, ast.ClassDef | ast.FunctionDef] | None:
    """The module that defines what has this dotted name, and its definition there; imports are followed."""
    module, _, last = name.rpartition(".")
    for node in _body(module):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == last:
            return module, node
    if (source := _imported(module, last)) and source != name:
        return definition(source)
    for star in _stars(module):
        if found := definition(f"{star}.{last}"):
            return found
    return None


def _imported(module: str, name: str) -> str | None:
    """The full name of what `module` imports as `name`."""
    for node in _body(module):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    source = f"{_source(module, node)}." if isinstance(node, ast.ImportFrom) else ""
                    return source + alias.name
    return None


def _stars(module: str) -> Iterable[str]:
    for node in _body(module):
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            yield _source(module, node)


def _source(module: str, node: ast.ImportFrom) -> str:
    """The module that `node`, an import in `module`, imports from; relative ones made absolute."""
    parts = module.split(".")
    path = _path(module)
    package = parts if path and path.name == "__init__.py" else parts[:-1]
    above = package[: len(package) - node.level + 1] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


@cache
def _body(module: str) -> list[ast.stmt]:
    path = _path(module)
    return ast.parse(path.read_text(encoding="utf-8")).body if path else []


@cache
def _path(module: str) -> Path | None:
    """The file of a module; it is not imported, nor is any package above it."""
    first, *rest = module.split(".")
    spec = find_spec(first) if first else None
    if spec is None or not spec.submodule_search_locations:
        return None
    base = Path(spec.submodule_search_locations[0], *rest)
    files = (base.with_suffix(".py"), base / "__init__.py") if rest else (base / "__init__.py",)
    return next((file for file in files if file.is_file()), None)
