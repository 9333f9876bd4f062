"""Random numbers as a function of the position in a run: (seed, epoch, batch) or (seed, sample).

No random state is carried from one batch to the next. So a resumed run draws the same numbers as a
run that was never interrupted, and a callback, which has a separate generator, changes nothing.
"""

import hashlib
import math

import torch
from torch import Tensor

from src.core.transfer import to_device


def derive_seed(*parts: int | str) -> int:
    """Mix `parts` into one 63-bit seed.

    It is the same on every machine, in every process and for every PYTHONHASHSEED.
    """
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """Return a CPU generator seeded by `parts`. The global generator is not affected."""
    return torch.Generator().manual_seed(derive_seed(*parts))


class CounterRNG:
    """A random number generator for each sample of a batch.

    The numbers of a sample depend only on `parts` and its index: not on its batch, the worker or
    the process. A counter is hashed (SplitMix64: Steele 2014, figure 17), so a whole batch is drawn
    at once, on any device.

    Args:
        samples: (B,) int64, index of each sample in its set.
        parts: what else the numbers depend on, such as the seed.
        epoch: they also depend on this, unless it is None.
        names: of the forks that led to this generator.
    """

    def __init__(
        self,
        samples: Tensor,
        *parts: int | str,
        epoch: int | None = None,
        names: tuple[str, ...] = (),
    ) -> None:
        self.samples, self.parts, self.epoch, self.names = samples, parts, epoch, names
        at = () if epoch is None else (epoch,)
        self.keys = _hash(samples * _GOLDEN + derive_seed(*parts, *at, *names))
        self.used = 0

    def fork(self, name: str) -> "CounterRNG":
        """Return an independent generator, which other draws do not affect."""
        names = (*self.names, name)
        return CounterRNG(self.samples, *self.parts, epoch=self.epoch, names=names)

    def at_epoch(self, epoch: int) -> "CounterRNG":
        """Return this generator, unused, as it is in another epoch."""
        return CounterRNG(self.samples, *self.parts, epoch=epoch, names=self.names)

    def to(self, device: torch.device) -> "CounterRNG":
        """Return this generator, unused, on `device`."""
        samples = to_device(self.samples, device)
        return CounterRNG(samples, *self.parts, epoch=self.epoch, names=self.names)

    def _bits(self, *shape: int) -> Tensor:
        n = math.prod(shape)
        counter = torch.arange(self.used + 1, self.used + n + 1, device=self.keys.device)
        self.used += n
        return _hash(self.keys.unsqueeze(1) + counter * _GOLDEN).view(-1, *shape)

    def integer(self) -> Tensor:
        """Draw (B,) int64 from 0 to 2^63 - 1, for use as seeds."""
        return self._bits(1)[:, 0] & 0x7FFFFFFFFFFFFFFF

    def uniform(self, *shape: int) -> Tensor:
        """Draw (B, *shape) float32, uniform in [0, 1)."""
        return _to_unit(self._bits(*shape) >> 40)

    def normal(self, *shape: int) -> Tensor:
        """Draw (B, *shape) float32, standard normal (Box and Muller 1958)."""
        bits = self._bits((math.prod(shape) + 1) // 2)  # each hash yields two numbers
        radius = (1 - _to_unit(bits >> 40)).log_().mul_(-2).sqrt_()
        angle = _to_unit(bits >> 16).mul_(2 * math.pi)
        both = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)
        return both[:, : math.prod(shape)].view(-1, *shape)


_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # int64 wraps around, as SplitMix64's uint64 does


def _hash(z: Tensor) -> Tensor:
    """Apply SplitMix64's finalizer. int64's shift copies the sign bit, so these bits are masked."""
    z = (z ^ ((z >> 30) & 0x3FFFFFFFF)) * (0xBF58476D1CE4E5B9 - 2**64)
    z = (z ^ ((z >> 27) & 0x1FFFFFFFFF)) * (0x94D049BB133111EB - 2**64)
    return z ^ ((z >> 31) & 0x1FFFFFFFF)


def _to_unit(bits: Tensor) -> Tensor:
    """Turn the lowest 24 bits into float32 in [0, 1)."""
    return (bits & 0xFFFFFF).to(torch.float32).mul_(2.0**-24)
