"""Randomness as a function of where one stands: (seed, epoch, batch), never of what happened before.

Nothing random is carried from one batch to the next, so a run that is cut and resumed draws what the uncut run draws, and a
picture taken on the way (with a generator of its own) changes nothing.
"""

import hashlib
import math

import torch
from torch import Tensor


def derive_seed(*parts: int | str) -> int:
    """Mix `parts` into one 63-bit seed: the same on every machine, in every process, for every PYTHONHASHSEED."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by `parts`; drawing from it leaves the global one alone."""
    return torch.Generator().manual_seed(derive_seed(*parts))


class CounterRNG:
    """Numbers of each sample's own: a function of (seed, epoch, sample) alone, whatever batch, worker or process it is in.

    A counter is hashed (SplitMix64: Steele 2014, figure 17), so a whole batch is drawn at once, wherever it lies.

    Args:
        samples: (B,) int64, which samples of the set they are.
        parts: what else the numbers depend on, seed and epoch say.
    """

    def __init__(self, samples: Tensor, *parts: int | str) -> None:
        self.samples, self.parts = samples, parts
        self.keys = _mixed(samples * _GOLDEN + derive_seed(*parts))
        self.used = 0

    def fork(self, name: str) -> "CounterRNG":
        """CounterRNG for one purpose: what else is drawn does not move them."""
        return CounterRNG(self.samples, *self.parts, name)

    def to(self, device: torch.device) -> "CounterRNG":
        """The same, drawn there."""
        return CounterRNG(self.samples.to(device), *self.parts)

    def _bits(self, *shape: int) -> Tensor:
        n = math.prod(shape)
        counter = torch.arange(self.used + 1, self.used + n + 1, device=self.keys.device)
        self.used += n
        return _mixed(self.keys.unsqueeze(1) + counter * _GOLDEN).view(-1, *shape)

    def integer(self) -> Tensor:
        """(B,) int64, from 0 to 2^63 - 1: a seed."""
        return self._bits(1)[:, 0] & 0x7FFFFFFFFFFFFFFF

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) float32 in [0, 1)."""
        return _unit(self._bits(*shape) >> 40)

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) float32, standard normal (Box and Muller 1958), two of a hash."""
        bits = self._bits((math.prod(shape) + 1) // 2)
        radius = (1 - _unit(bits >> 40)).log_().mul_(-2).sqrt_()
        angle = _unit(bits >> 16).mul_(2 * math.pi)
        both = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)
        return both[:, : math.prod(shape)].view(-1, *shape)


_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # int64 wraps around, as SplitMix64's uint64 does


def _mixed(z: Tensor) -> Tensor:
    """SplitMix64's finaliser; int64's shift keeps the sign, so what it brings in is masked away."""
    z = (z ^ ((z >> 30) & 0x3FFFFFFFF)) * (0xBF58476D1CE4E5B9 - 2**64)
    z = (z ^ ((z >> 27) & 0x1FFFFFFFFF)) * (0x94D049BB133111EB - 2**64)
    return z ^ ((z >> 31) & 0x1FFFFFFFF)


def _unit(bits: Tensor) -> Tensor:
    """The lowest 24 bits as float32 in [0, 1)."""
    return (bits & 0xFFFFFF).to(torch.float32).mul_(2.0**-24)
