"""Randomness as a function of where one stands: (seed, epoch, batch), never of what happened before.

Nothing random is carried from one batch to the next, so a run that is cut and resumed draws what the uncut run draws, and a
picture taken on the way (with a generator of its own) changes nothing.
"""

import hashlib

import torch


def seed_of(*parts: int | str) -> int:
    """Mix `parts` into one 63-bit seed: the same on every machine, in every process, for every PYTHONHASHSEED."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by `parts`; drawing from it leaves the global one alone."""
    return torch.Generator().manual_seed(seed_of(*parts))
