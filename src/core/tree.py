"""Plain configs as trees of dicts."""

from collections.abc import Iterator
from typing import Any


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value of a plain config with its dotted path; a list is one value."""
    if isinstance(node, dict) and (node or not path):
        for key, child in node.items():
            yield from leaves(child, f"{path}.{key}" if path else str(key))
    elif not (path in ("experiment", "logger", "callbacks", "augment") and not node):
        yield path, node
