"""Collect the items of several requests into batches for the network."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


class Batcher:
    """Run a function on batches of items that come one by one.

    While the network computes, new items wait; all that wait then make up the next batch. So a
    single item is answered at once, and many share the work.

    Args:
        function: B items -> B results; called in one thread.
        batch_size: items at most in a batch.
    """

    def __init__(self, function: Callable[[Sequence[Any]], Sequence[Any]], batch_size: int) -> None:
        self.function, self.batch_size = function, batch_size
        self.waiting: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        self.arrived = asyncio.Event()
        self.thread = ThreadPoolExecutor(1, "network")

    async def submit(self, items: Sequence[Any]) -> list[Any]:
        """Return the results for `items`, which may be computed in several batches."""
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in items]
        self.waiting += zip(items, futures, strict=True)
        self.arrived.set()
        try:
            return await asyncio.gather(*futures)
        finally:
            for future in futures:  # of a request that timed out
                future.cancel()

    async def call(self, function: Callable[..., Result], *args: Any) -> Result:
        """Call a function in the thread of the network, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, function, *args)

    async def run(self) -> None:
        """Compute until cancelled."""
        while True:
            await self.arrived.wait()
            batch = self._next_batch()
            if not batch:
                self.arrived.clear()
                continue
            try:
                items = [item for item, _ in batch]
                results = await self.call(self.function, items)
            except Exception as error:  # the requests of this batch fail, the others do not
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    def _next_batch(self) -> list[tuple[Any, asyncio.Future[Any]]]:
        """Take the items that waited longest, without those that nobody waits for any more."""
        batch: list[tuple[Any, asyncio.Future[Any]]] = []
        while self.waiting and len(batch) < self.batch_size:
            item, future = self.waiting.popleft()
            if not future.cancelled():
                batch.append((item, future))
        return batch
