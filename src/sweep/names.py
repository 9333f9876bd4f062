"""Names of the folders of a sweep's jobs: what differs between them."""

import hashlib
import re
from collections.abc import Iterable, Mapping

MAX_BYTES = 120  # of a name; file systems allow 255


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Return a short name for each key: its last words, enough to distinguish it from the others.

    {"model.optimizer.lr": "lr", "model/loss": "loss"}
    """
    words = {key: re.split(r"[./@]", key.lstrip("+~")) for key in keys}
    short = {}
    for key, parts in words.items():
        for n in range(1, len(parts) + 1):
            others = [other[-n:] for name, other in words.items() if name != key]
            if parts[-n:] not in others:
                break
        short[key] = ".".join(parts[-n:])
    return short


def short_values(values: Mapping[str, str]) -> str:
    """Return swept values as one word: `lr=0.001,loss=lsgan`."""
    short = short_keys(values)
    return ",".join(f"{short[key]}={short_value(value)}" for key, value in values.items())


def folder_name(values: Mapping[str, str], taken: set[str]) -> str:
    """Return a name that is not in `taken`, and add it.

    Other characters than letters, digits and .=,+- become _; a long name ends with a digest.
    """
    name = re.sub(r"[^\w.=,+-]", "_", short_values(values))
    if len(name.encode()) > MAX_BYTES:
        digest = hashlib.sha256(repr(dict(values)).encode()).hexdigest()[:8]
        name = name.encode()[: MAX_BYTES - 9].decode(errors="ignore") + f"-{digest}"
    name, number = name or "job", 1
    unique = name
    while unique in taken:
        number += 1
        unique = f"{name}-{number}"
    taken.add(unique)
    return unique


def short_value(text: str) -> str:
    """Return a value without quotes; a number with at most four significant digits."""
    text = text.strip("'\"")
    if re.fullmatch(r"[-+]?\d*\.?\d+(e[-+]?\d+)?", text, re.IGNORECASE) and len(text) > 8:
        return f"{float(text):.4g}"
    return text
