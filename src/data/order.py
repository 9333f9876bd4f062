"""The order of an epoch: a function of (seed, epoch), from any batch on."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from src.randomness import generator


class EpochSampler(Sampler):
    """Batches of indices whose order depends on (seed, epoch) alone, from any batch on.

    Args:
        n: images in the set.
        batch_size: images a batch. The last batch is whatever is left; a single image left over joins the batch before it,
            since a batch of one has no statistics for BatchNorm.
        seed: of the run.
        shuffle: a new order every epoch, else as stored.
        position: () -> (epoch, first batch); asked when iteration starts.
        rank, world: this process takes every world-th index; short ranks repeat from the start, so that all have equal batches.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int,
        shuffle: bool,
        position: Callable[[], tuple[int, int]] = lambda: (0, 0),
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.n, self.batch_size, self.seed, self.shuffle = n, batch_size, seed, shuffle
        self.position, self.rank, self.world = position, rank, world

    def __iter__(self) -> Iterator[Tensor]:
        epoch, start = self.position()
        order = torch.randperm(self.n, generator=generator(self.seed, "order", epoch)) if self.shuffle else None
        indices = torch.arange(self.n) if order is None else order
        if self.world > 1:
            missing = -self.n % self.world
            indices = torch.cat([indices, indices[:missing]])[self.rank :: self.world]
        yield from self._split(indices)[start:]

    def _split(self, indices: Tensor) -> list[Tensor]:
        batches = list(indices.split(self.batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def __len__(self) -> int:
        return len(self._split(torch.empty(-(-self.n // self.world))))
