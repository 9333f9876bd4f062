"""Counts in messages."""


def count(n: int, noun: str) -> str:
    """Return `n` with `noun`, in the plural unless `n` is 1: '1 image', '0 classes', '2 copies'."""
    if n == 1:
        return f"1 {noun}"
    if noun.endswith(("s", "tch")):
        return f"{n} {noun}es"
    return f"{n} {noun[:-1]}ies" if noun.endswith("py") else f"{n} {noun}s"
