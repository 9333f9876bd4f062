"""Turn the text of an annotation into a type, without importing the module that contains it."""

import ast
import builtins
import importlib
from functools import cache
from typing import Any, Literal, Union

from src.config.signatures import assigned, definition, imported, statements

LIGHT = ("typing", "typing_extensions", "collections.abc", "src.core.types")  # cheap to import
PLAIN = ("int", "float", "bool", "str", "list", "tuple", "dict", "object")


class Unknown:
    """Stand for a type that cannot be found in the source; any value passes."""


class NotPlain:
    """Stand for a class such as Tensor; no value of a config is an instance."""


@cache
def resolve(annotation: str, module: str) -> Any:
    """Return the type that `annotation` means in `module`.

    `Unknown` if it is empty or names something that cannot be found.
    """
    try:
        return _value(ast.parse(annotation, mode="eval").body, module)
    except (SyntaxError, TypeError):
        return Unknown


def _value(node: ast.expr, module: str) -> Any:
    if isinstance(node, ast.Constant):
        return resolve(node.value, module) if isinstance(node.value, str) else node.value
    if isinstance(node, ast.Name | ast.Attribute):
        return _named(ast.unparse(node), module)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return Union[_value(node.left, module), _value(node.right, module)]  # noqa: UP007
    if isinstance(node, ast.Call):  # Interval(ge=2) inside Annotated[...]
        limits = {word.arg or "": ast.literal_eval(word.value) for word in node.keywords}
        return _value(node.func, module)(*map(ast.literal_eval, node.args), **limits)
    if isinstance(node, ast.Subscript):
        outer = _value(node.value, module)
        if outer is Literal:
            return Literal.__getitem__(ast.literal_eval(node.slice))
        if outer in (Unknown, NotPlain):
            return outer
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        values = tuple(_value(part, module) for part in inner)
        return outer[values if len(values) > 1 else values[0]]
    return Unknown


def _named(name: str, module: str) -> Any:
    """Return the type that `module` calls `name`."""
    first, _, rest = name.partition(".")
    if name.rpartition(".")[2] == "Tensor":
        return NotPlain
    for statement in statements(module):
        if (alias := assigned(statement, name)) is not None:
            return _value(alias, module)
    source = imported(module, first)
    if source is None:
        if name in PLAIN:
            return getattr(builtins, name)
        return NotPlain if definition(f"{module}.{name}") else Unknown
    home, _, last = (f"{source}.{rest}" if rest else source).rpartition(".")
    if home in LIGHT:
        found = getattr(importlib.import_module(home), last, Unknown)
        return Unknown if last in ("Callable", "Any") else found
    return _named(last, home) if statements(home) else Unknown
