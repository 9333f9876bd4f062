"""The names of timm's networks, read from its source: importing timm would import torch."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from src.core.errors import near

ARCHITECTURE = re.compile(r"^@register_model\s+def (\w+)\(", re.MULTILINE)
PRETRAINED = re.compile(r"""['"](\w+)\.([\w-]+)\*?['"]\s*:""")  # 'resnet18.a1_in1k': _cfg(...)


@cache
def tags() -> dict[str, set[str]]:
    """Return the tags of each architecture's pretrained weights.

    An architecture whose tags timm computes, instead of listing them, has an empty set.
    """
    spec = find_spec("timm")
    folders = (spec.submodule_search_locations if spec else None) or []
    sources = [
        path.read_text(encoding="utf-8")
        for folder in folders
        for path in sorted(Path(folder, "models").glob("*.py"))
    ]
    every = "\n".join(sources)
    found: dict[str, set[str]] = {name: set() for name in ARCHITECTURE.findall(every)}
    for architecture, tag in PRETRAINED.findall(every):
        if architecture in found:
            found[architecture].add(tag)
    return found


def is_known(name: str) -> bool:
    """Return whether timm has the network `name`: ARCHITECTURE or ARCHITECTURE.TAG."""
    architecture, dot, tag = name.partition(".")
    listed = tags().get(architecture)
    return listed is not None and (not dot or tag in listed or (not listed and tag != ""))


def nearest(name: str) -> str:
    """Return '; did you mean X?' for the name of timm that is nearest to `name`, or ''."""
    architecture, _, tag = name.partition(".")
    if architecture in tags():
        return near(tag, sorted(tags()[architecture])).replace("mean ", f"mean {architecture}.")
    return near(architecture, sorted(tags()))
