"""The order of an epoch as a function of (seed, epoch), and the loader that reads a set in it."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from src.core.counts import count
from src.core.errors import UserError
from src.core.memory import return_memory
from src.core.progress import progress
from src.core.randomness import generator
from src.core.signals import ignore_in_worker

log = logging.getLogger(__name__)

NICE = 10  # how much a worker yields to the main process, from 0 to 19
Stage = Literal["train", "val", "test"]
SMALL = 2**20  # bytes of a batch that a pipe carries in less time than shared memory


class EpochSampler(Sampler[Tensor]):
    """Yield batches of indices.

    The order depends only on (seed, epoch), so iteration can start at any batch.

    Args:
        n: images in the set.
        batch_size: images per batch. The last batch may be smaller. If it would have one image,
            that image joins the batch before it, because BatchNorm needs two.
        seed: seed of the run.
        shuffle: draw a new order every epoch; False: the stored order.
        once: for evaluation: every image comes once, also with several processes.
        position: () -> (epoch, first batch); called when iteration starts.
        columns: number of sets that are read side by side, each shuffled separately. A batch is
            then (B, columns) indices; for one column it is (B,).
        rank, world: this process takes every world-th index. All processes get the same number of
            batches, because each forward pass may wait for the others. In training, short ranks
            repeat images from the start. With `once`, batch sizes differ by at most one.

    Raises:
        UserError: there are fewer images than processes to evaluate them.
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
        once: bool = False,
    ) -> None:
        self.n, self.batch_size, self.once = n, batch_size, once
        self.seed, self.shuffle, self.columns = seed, shuffle, columns
        self.position, self.rank, self.world = position, rank, world
        if once and 0 < n < world:
            raise UserError(
                f"{count(n, 'image')} cannot be split among {world} processes for "
                "evaluation: use fewer devices"
            )

    def __iter__(self) -> Iterator[Tensor]:
        epoch, start = self.position()
        indices = self._shuffled(epoch) if self.shuffle else torch.arange(self.n)
        if self.world == 1:
            yield from self._split(indices)[start:]
        elif self.once:
            yield from indices[self.rank :: self.world].tensor_split(len(self))
        else:
            whole = -(-self.n // self.world) * self.world  # the next multiple of `world`
            mine = torch.arange(self.rank, whole, self.world) % self.n
            yield from self._split(indices[mine])[start:]

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
        if self.world > 1 and self.once:
            return -(-(self.n // self.world) // self.batch_size)
        return len(self._split(torch.empty(-(-self.n // self.world))))


def loader(
    part: Any,
    batch_size: int,
    seed: int,
    stage: Stage,
    trainer: pl.Trainer | None,
    workers: int = 0,
) -> Iterable[Any]:
    """Return a loader that reads each batch of `part` by one index operation, part[indices].

    Training batches are shuffled, and start at the position of `trainer`. If the trainer cuts
    validation or the test short (trainer.limit_val_batches), this one is shuffled too, in the
    same order for all runs: files are often sorted by class, so the first images do not represent
    the set.

    Args:
        part: the set, with len(part) and part[indices].
        batch_size: images per batch.
        seed: seed of the run.
        stage: what the loader is for.
        trainer: None outside of a run.
        workers: processes that read; 0: this process.
    """
    training = stage == "train"
    limit = 1.0 if trainer is None or training else getattr(trainer, f"limit_{stage}_batches")
    # Lightning's limit: an int is a number of batches, a float a fraction; 1.0 is everything
    cut_short = limit < 1 or isinstance(limit, int)
    sampler = EpochSampler(
        len(part),
        batch_size,
        seed if training else 0,
        shuffle=training or cut_short,
        position=(lambda: _position(trainer)) if training else lambda: (0, 0),
        rank=trainer.global_rank if trainer is not None else 0,
        world=trainer.world_size if trainer is not None else 1,
        columns=getattr(part, "columns", 1) if training else 1,
        once=not training,
    )
    if workers:
        return WorkerLoader(cast(Dataset[Any], part), sampler, workers)
    if training:
        return MemoryLoader(part, sampler)
    return DataLoader(cast(Dataset[Any], part), batch_size=None, sampler=sampler)


@dataclass
class MemoryLoader:
    """Read training batches in this process, by part[indices].

    It is a DataLoader without workers, and without what that does around each batch. For validation
    and test Lightning needs a DataLoader.

    Args:
        part: the set.
        sampler: yields batches of indices.
    """

    part: Any
    sampler: EpochSampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        return (self.part[indices] for indices in self.sampler)


class WorkerLoader(DataLoader[Any]):
    """Read batches in worker processes, in the order of the sampler.

    A large batch travels through shared memory. A small one goes through a pipe, and so does a
    large one if shared memory is full (torch would hang). If the machine cannot start processes,
    the main process reads.

    Args:
        part: the set, read by part[indices].
        sampler: yields batches of indices.
        workers: number of processes.
    """

    piped = False  # whether a batch has come through a pipe; reported once

    def __init__(self, part: Dataset[Any], sampler: EpochSampler, workers: int) -> None:
        super().__init__(
            _InWorker(part),
            batch_size=None,
            sampler=_AsArrays(sampler),
            num_workers=workers,
            collate_fn=_unchanged,
            persistent_workers=True,
            worker_init_fn=_start_worker,
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
                "data.workers=%d cannot be started (%s; check /dev/shm and ulimit): "
                "the main process reads the images, which is slower",
                self.num_workers,
                error.strerror or error,
            )
            self.num_workers = 0
            batches = super().__iter__()
        return map(self._receive, batches)

    def _receive(self, batch: Sequence[Tensor | np.ndarray]) -> tuple[Tensor, ...]:
        arrays = [part for part in batch if isinstance(part, np.ndarray)]
        if not self.piped and sum(part.nbytes for part in arrays) > SMALL:
            WorkerLoader.piped = True
            log.info("/dev/shm is full: batches of data.workers come through a pipe, more slowly")
        return tuple(torch.as_tensor(part) for part in batch)


@dataclass
class _InWorker(Dataset[Any]):
    """A set as a worker reads it."""

    part: Any

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, indices: np.ndarray) -> tuple[Tensor | np.ndarray, ...]:
        batch = self.part[torch.from_numpy(indices)]
        if sum(part.nbytes for part in batch) > SMALL:
            with suppress(RuntimeError):  # no room
                return tuple(part.share_memory_() for part in batch)
        return tuple(part.numpy() for part in batch)


@dataclass
class _AsArrays(Sampler[Any]):
    """Yield the sampler's batches as arrays: a tensor would be sent through shared memory."""

    sampler: EpochSampler

    def __iter__(self) -> Iterator[np.ndarray]:
        return (indices.numpy() for indices in self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)


def _start_worker(number: int) -> None:
    """Leave signals to the main process, and processor time and memory too when it needs them.

    The threads of training wait for each other: one that waits for a worker's turn on its core
    delays all.
    """
    ignore_in_worker(number)
    return_memory()
    os.nice(NICE)


def _try_queues(n: int) -> None:
    """Create `n` queues and close them; raises OSError if the machine has no room for them.

    A queue takes open files, and semaphores in /dev/shm. Without this check torch would fail
    halfway through its own queues, and print a traceback while cleaning up.
    """
    queues: list[Any] = [torch.multiprocessing.Queue() for _ in range(n)]
    for queue in queues:
        queue.close()


def _unchanged(batch: Any) -> Any:
    return batch


def _position(trainer: pl.Trainer | None) -> tuple[int, int]:
    """Return the position of `trainer`, (epoch, first batch).

    The first batch is 0, except after a resume in the middle of an epoch.
    """
    if trainer is None:
        return 0, 0
    loop: Any = trainer.fit_loop
    done = loop.epoch_loop.batch_progress.current.processed if loop.restarting else 0
    return progress(trainer).epoch, done
