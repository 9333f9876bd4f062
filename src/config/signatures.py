"""Read signatures and class attributes from source code with `ast`.

Nothing is imported, so a mistake in a config is reported before torch is loaded.
"""

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple


class Parameter(NamedTuple):
    """A parameter of a class or function.

    Attributes:
        annotation: its text; empty where there is none.
        module: the module whose names the annotation uses.
        required: whether it has no default.
    """

    annotation: str
    module: str
    required: bool


@dataclass(frozen=True)
class Signature:
    """The signature of a class or function.

    Attributes:
        parameters: by name, in order.
        accepts_any_keyword: whether any name is allowed: it has `**kwargs`, and where they go is
            unknown.
        module: where it is defined.
        bases: names of the classes that it derives from; empty for a function.
        returns: the annotation of a function's result.
        has_call: whether it is a class with a `__call__` method.
    """

    parameters: dict[str, Parameter]
    accepts_any_keyword: bool
    module: str
    bases: frozenset[str] = frozenset()
    returns: str = ""
    has_call: bool = False

    @property
    def required(self) -> frozenset[str]:
        """Names of the parameters without a default."""
        return frozenset(name for name, found in self.parameters.items() if found.required)


@cache
def signature(target: str) -> Signature | None:
    """Return the signature of the class or function `target`; None if it does not exist."""
    found = definition(target)
    if found is None:
        return None
    module, node = found
    if isinstance(node, ast.FunctionDef):
        parameters, more = _parameters(node, module)
        returns = ast.unparse(node.returns) if node.returns else ""
        return Signature(parameters, more, module, returns=returns)
    parents = [ast.unparse(base) for base in node.bases]
    known = [parent for base in parents if (parent := _of_base(base, module))]
    names = {base.rpartition(".")[2] for base in parents}.union(*(parent.bases for parent in known))
    methods = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    has_call = "__call__" in methods or any(parent.has_call for parent in known)
    if "__init__" in methods:
        parameters, more = _parameters(methods["__init__"], module, known[0] if known else None)
    elif any("dataclass" in ast.unparse(word) for word in node.decorator_list):
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
        parameters = {name: found for parent in known for name, found in parent.parameters.items()}
        parameters |= {
            ast.unparse(item.target): Parameter(
                ast.unparse(item.annotation), module, item.value is None
            )
            for item in fields
            if "ClassVar" not in ast.unparse(item.annotation)
        }
        more = False
    elif known:
        parameters, more = known[0].parameters, known[0].accepts_any_keyword
    else:
        parameters, more = {}, bool(parents) and not module.startswith("src.")
    return Signature(parameters, more, module, frozenset(names), has_call=has_call)


def _of_base(base: str, module: str) -> Signature | None:
    """Return the signature of the class that `module` calls `base`."""
    return signature(_full_name(base, module))


def _full_name(name: str, module: str) -> str:
    """Return the dotted name of the object that `module` calls `name`."""
    first, _, rest = name.partition(".")
    full = imported(module, first) or f"{module}.{first}"
    return f"{full}.{rest}" if rest else full


def _parameters(
    function: ast.FunctionDef, module: str, parent: Signature | None = None
) -> tuple[dict[str, Parameter], bool]:
    """Return the parameters of a function, and whether it takes others too.

    A `**kwargs` stands for the parameters of the function that it is passed to. For `__init__` that
    may be the `parent` class.
    """
    args = function.args
    positional = [*args.posonlyargs, *args.args][function.name == "__init__" :]
    without = len(positional) - len(args.defaults)
    required = {arg.arg for arg in positional[: max(without, 0)]} | {
        arg.arg
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
        if default is None
    }
    own = {
        arg.arg: Parameter(
            ast.unparse(arg.annotation) if arg.annotation else "", module, arg.arg in required
        )
        for arg in (*positional, *args.kwonlyargs)
    }
    if args.kwarg is None:
        return own, False
    for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
        if not any(
            word.arg is None and ast.unparse(word.value) == args.kwarg.arg for word in call.keywords
        ):
            continue
        name = ast.unparse(call.func)
        receiver = parent if name == "super().__init__" else signature(_full_name(name, module))
        if receiver is not None:
            given = {word.arg for word in call.keywords} | {
                *list(receiver.parameters)[: len(call.args)]
            }
            rest = {k: found for k, found in receiver.parameters.items() if k not in given}
            others = {k: found for k, found in rest.items() if k not in own}
            return own | others, receiver.accepts_any_keyword
    return own, True


@cache
def class_attribute(target: str, name: str) -> Any:
    """Return the attribute `name` of the class `target`, which may be inherited; None if missing.

    Its value must be a literal or the name of a constant in the same module.
    """
    module, node = definition(target) or ("", None)
    if not isinstance(node, ast.ClassDef):
        return None
    for item in node.body:
        if (value := assigned(item, name)) is not None:
            return _literal(value, module)
    for base in node.bases:
        inherited = class_attribute(_full_name(ast.unparse(base), module), name)
        if inherited is not None:
            return inherited
    return None


def assigned(statement: ast.stmt, name: str) -> ast.expr | None:
    """Return the expression that `statement` assigns to `name`, if any."""
    if isinstance(statement, ast.AnnAssign):
        return statement.value if ast.unparse(statement.target) == name else None
    if isinstance(statement, ast.Assign):
        return statement.value if name in map(ast.unparse, statement.targets) else None
    return None


def _literal(value: ast.expr, module: str) -> Any:
    if isinstance(value, ast.Name):
        constants = [found for item in statements(module) if (found := assigned(item, value.id))]
        return _literal(constants[-1], module)
    return ast.literal_eval(value)


@cache
def definition(name: str) -> tuple[str, ast.ClassDef | ast.FunctionDef] | None:
    """Return the module that defines the object with this dotted name, and its definition.

    Imports are followed. None if there is no such class or function.
    """
    module, _, last = name.rpartition(".")
    for node in statements(module):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == last:
            return module, node
    if (source := imported(module, last)) and source != name:
        return definition(source)
    for star in _stars(module):
        if found := definition(f"{star}.{last}"):
            return found
    return None


def imported(module: str, name: str) -> str | None:
    """Return the full name of the object that `module` imports as `name`."""
    for node in statements(module):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    source = f"{_source(module, node)}." if isinstance(node, ast.ImportFrom) else ""
                    return source + alias.name
    return None


def _stars(module: str) -> Iterable[str]:
    for node in statements(module):
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            yield _source(module, node)


def _source(module: str, node: ast.ImportFrom) -> str:
    """Return the absolute name of the module that the import `node` in `module` refers to."""
    parts = module.split(".")
    path = _path(module)
    package = parts if path and path.name == "__init__.py" else parts[:-1]
    above = package[: len(package) - node.level + 1] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


@cache
def statements(module: str) -> list[ast.stmt]:
    """Return the top-level statements of a module; none if its source cannot be found."""
    path = _path(module)
    return ast.parse(path.read_text(encoding="utf-8")).body if path else []


@cache
def _path(module: str) -> Path | None:
    """Return the file of a module. Neither it nor a package above it is imported."""
    first, *rest = module.split(".")
    spec = find_spec(first) if first else None
    if spec is None or not spec.submodule_search_locations:
        return None
    base = Path(spec.submodule_search_locations[0], *rest)
    files = (base.with_suffix(".py"), base / "__init__.py") if rest else (base / "__init__.py",)
    return next((file for file in files if file.is_file()), None)
