"""The order of an epoch: a function of (seed, epoch), from any batch on; and the loader that reads a set in it."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from src.core.errors import UserError
from src.core.randomness import generator
from src.core.signals import ignore_in_worker

log = logging.getLogger(__name__)


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
        rank, world: this process takes every world-th index. All ranks have equally many batches,
            since each forward pass may wait for the others: in training short ranks repeat images
            from the start; else each image comes once, and batches differ by an image.

    Raises:
        UserError: there are fewer images than processes to measure them.
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
        if not shuffle and 0 < n < world:
            raise UserError(
                f"{n} images cannot be measured by {world} processes: use fewer devices"
            )

    def __iter__(self) -> Iterator[Tensor]:
        epoch, start = self.position()
        indices = self._shuffled(epoch) if self.shuffle else torch.arange(self.n)
        if self.world == 1:
            yield from self._split(indices)[start:]
        elif self.shuffle:
            missing = -self.n % self.world
            indices = torch.cat([indices, indices[:missing]])[self.rank :: self.world]
            yield from self._split(indices)[start:]
        else:
            yield from indices[self.rank :: self.world].tensor_split(len(self))

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
        if self.world > 1 and not self.shuffle:
            return -(-(self.n // self.world) // self.batch_size)
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
    if workers:
        return Workers(cast(Dataset, part), sampler, workers)
    return DataLoader(cast(Dataset, part), batch_size=None, sampler=sampler)


class Workers(DataLoader):
    """Batches of `part` that worker processes read, in the sampler's order.

    A batch comes through shared memory, or through a pipe where that is full: torch alone would wait for it for ever. Where
    the machine starts no more processes, this one reads.

    Args:
        part: read by part[indices].
        sampler: batches of indices.
        workers: processes.
    """

    piped = False  # has a batch come through a pipe?

    def __init__(self, part: Dataset, sampler: Sampler, workers: int) -> None:
        super().__init__(
            _InWorker(part),
            batch_size=None,
            sampler=_AsArrays(sampler),
            num_workers=workers,
            collate_fn=_unchanged,
            persistent_workers=True,
            worker_init_fn=ignore_in_worker,
        )

    def __iter__(self) -> Any:
        try:
            if self._iterator is None:
                _try_queues(self.num_workers + 3)
            batches = super().__iter__()
        except OSError as error:
            if not self.num_workers:
                raise
            log.warning(
                "data.workers=%d cannot be started (%s; look at /dev/shm and ulimit): "
                "images are read without them, more slowly",
                self.num_workers,
                error.strerror or error,
            )
            self.num_workers = 0
            batches = super().__iter__()
        return map(self._received, batches)

    def _received(self, batch: Sequence[Tensor | np.ndarray]) -> tuple[Tensor, ...]:
        if not self.piped and any(isinstance(part, np.ndarray) for part in batch):
            Workers.piped = True
            log.info("/dev/shm is full: batches of data.workers come through a pipe, more slowly")
        return tuple(torch.as_tensor(part) for part in batch)


@dataclass
class _InWorker(Dataset):
    """`part` as a worker reads it: indices and batches that need no shared memory to be handed on."""

    part: Any

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, indices: np.ndarray) -> tuple[Tensor | np.ndarray, ...]:
        batch = self.part[torch.from_numpy(indices)]
        try:
            return tuple(part.share_memory_() for part in batch)
        except RuntimeError:  # no room
            return tuple(part.numpy() for part in batch)


@dataclass
class _AsArrays(Sampler):
    """The batches of `sampler` as arrays: a tensor is handed to a worker through shared memory."""

    sampler: Sampler

    def __iter__(self) -> Iterator[np.ndarray]:
        return (indices.numpy() for indices in self.sampler)

    def __len__(self) -> int:
        return len(cast(Any, self.sampler))


def _try_queues(n: int) -> None:
    """Raise OSError where the machine has no more semaphores, which lie in /dev/shm, or open files for `n` queues.

    Torch would meet that halfway through its own, and print a traceback when it clears up.
    """
    queues: list[Any] = [torch.multiprocessing.Queue() for _ in range(n)]
    for queue in queues:
        queue.close()


def _unchanged(batch: Any) -> Any:
    return batch


def _position(trainer: pl.Trainer | None) -> tuple[int, int]:
    """(epoch, first batch) that `trainer` stands at: the first batch is not 0 just after a resume inside an epoch."""
    if trainer is None:
        return 0, 0
    loop = cast(Any, trainer.fit_loop)
    done = loop.epoch_loop.batch_progress.current.processed if loop.restarting else 0
    return loop.epoch_progress.current.processed, done
