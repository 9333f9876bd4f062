"""The order of an epoch: a function of (seed, epoch), from any batch on; and the loader that reads a set in it."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from src.randomness import generator


class EpochSampler(Sampler):
    """Batches of indices whose order depends on (seed, epoch) alone, from any batch on.

    Args:
        n: images in the set.
        batch_size: images a batch. The last batch is whatever is left; a single image left over joins the batch before it,
            since a batch of one has no statistics for BatchNorm, unless every batch is of one.
        seed: of the run.
        shuffle: a new order every epoch, else as stored.
        position: () -> (epoch, first batch); asked when iteration starts.
        columns: of a set of pairs, each shuffled for itself: a batch is then (B, columns) indices; in one column (B,).
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
        columns: int = 1,
    ) -> None:
        self.n, self.batch_size, self.seed, self.shuffle, self.columns = (
            n,
            batch_size,
            seed,
            shuffle,
            columns,
        )
        self.position, self.rank, self.world = position, rank, world

    def __iter__(self) -> Iterator[Tensor]:
        epoch, start = self.position()
        indices = self._shuffled(epoch) if self.shuffle else torch.arange(self.n)
        if self.world > 1:
            missing = -self.n % self.world
            indices = torch.cat([indices, indices[:missing]])[self.rank :: self.world]
        yield from self._split(indices)[start:]

    def _shuffled(self, epoch: int) -> Tensor:
        first = torch.randperm(self.n, generator=generator(self.seed, "order", epoch))
        more = [
            torch.randperm(self.n, generator=generator(self.seed, "order", epoch, k))
            for k in range(1, self.columns)
        ]
        return torch.stack([first, *more], 1) if more else first

    def _split(self, indices: Tensor) -> list[Tensor]:
        batches = list(indices.split(self.batch_size))
        if self.batch_size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def __len__(self) -> int:
        return len(self._split(torch.empty(-(-self.n // self.world))))


def loader(
    part: Any,
    batch_size: int,
    seed: int,
    training: bool,
    trainer: pl.Trainer | None,
    workers: int = 0,
) -> DataLoader:
    """Batches of `part`, each read by one part[indices]; in training shuffled, from where `trainer` stands on.

    A validation or test that `trainer` cuts short (trainer.limit_val_batches) is shuffled too, by one order for all runs: the
    first images of a set that lies class after class do not stand for it.
    """
    limits = [trainer.limit_val_batches, trainer.limit_test_batches] if trainer is not None else []
    cut_short = any(
        limit < 1 or isinstance(limit, int) for limit in limits
    )  # 1.0 is all, 1 a batch
    sampler = EpochSampler(
        len(part),
        batch_size,
        seed if training else 0,
        shuffle=training or cut_short,
        position=(lambda: _position(trainer)) if training else lambda: (0, 0),
        rank=trainer.global_rank if trainer is not None else 0,
        world=trainer.world_size if trainer is not None else 1,
        columns=getattr(part, "columns", 1) if training else 1,
    )
    return DataLoader(
        cast(Dataset, part),
        batch_size=None,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def _position(trainer: pl.Trainer | None) -> tuple[int, int]:
    """(epoch, first batch) that `trainer` stands at: the first batch is not 0 just after a resume inside an epoch."""
    if trainer is None:
        return 0, 0
    loop = cast(Any, trainer.fit_loop)
    done = loop.epoch_loop.batch_progress.current.processed if loop.restarting else 0
    return loop.epoch_progress.current.processed, done
