"""Collect the images of several requests into batches for the network."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch import Tensor


class QueueFull(Exception):
    """More images wait than the queue holds."""


class Batcher:
    """Run a function on batches of images that come one by one.

    While the network computes, new images wait; all that wait then make up the next batch. So a
    single image is answered at once, and many share the work.

    Args:
        function: B images -> B results; called in one thread.
        batch_size: images at most in a batch.
        queue: images at most that wait.
    """

    def __init__(
        self,
        function: Callable[[Sequence[Tensor]], Sequence[Any]],
        batch_size: int,
        queue: int,
    ) -> None:
        self.function, self.batch_size, self.queue = function, batch_size, queue
        self.waiting: list[tuple[Tensor, asyncio.Future[Any]]] = []
        self.arrived = asyncio.Event()
        self.thread = ThreadPoolExecutor(1, "network")
        self.batches = 0

    async def submit(self, images: Sequence[Tensor]) -> list[Any]:
        """Return the results for `images`, which may be computed in several batches.

        Raises:
            QueueFull: not all of them fit into the queue; none is computed.
        """
        if len(self.waiting) + len(images) > self.queue:
            raise QueueFull
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in images]
        self.waiting += zip(images, futures, strict=True)
        self.arrived.set()
        try:
            return await asyncio.gather(*futures)
        finally:
            for future in futures:  # of a request that timed out
                future.cancel()

    async def run(self) -> None:
        """Compute until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self.arrived.wait()
            batch = [pair for pair in self.waiting if not pair[1].cancelled()][: self.batch_size]
            taken = {id(future) for _, future in batch}
            self.waiting = [
                pair
                for pair in self.waiting
                if id(pair[1]) not in taken and not pair[1].cancelled()
            ]
            if not self.waiting:
                self.arrived.clear()
            if not batch:
                continue
            self.batches += 1
            try:
                images = [image for image, _ in batch]
                results = await loop.run_in_executor(self.thread, self.function, images)
            except Exception as error:  # the requests of this batch fail, the others do not
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
