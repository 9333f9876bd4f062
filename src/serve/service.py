"""The parts that all services share: limits, the queue, counters and timeouts."""

import asyncio
import contextlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from fastapi import APIRouter, HTTPException
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from src.serve.batcher import Batcher

Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """Limits on the requests of clients; see conf/serve.yaml."""

    batch_size: int
    queue: int
    timeout: float
    max_megabytes: float
    max_megapixels: float
    max_files: int

    @property
    def max_body(self) -> int:
        """Largest body of a request, in bytes. Images in base64 are a third larger."""
        return int(1.4e6 * self.max_megabytes * self.max_files)


class Service(ABC):
    """A trained model behind HTTP: its own routes, and what all services need.

    Args:
        about: facts about the run, for `GET /model`.
        limits: on the requests of clients.

    Attributes:
        page: the template of its page, in src/serve/pages.
        max_body: largest body of a request, in bytes.
    """

    page: ClassVar[str]

    def __init__(self, about: dict[str, Any], limits: Limits) -> None:
        self.about, self.limits = about, limits
        self.batcher = Batcher(self.compute, limits.batch_size)
        self.threads = ThreadPoolExecutor(os.cpu_count(), "pixels")  # more would only use memory
        self.max_body = limits.max_body
        self.in_progress = 0
        self.registry = own = CollectorRegistry()
        self.images = Counter("images", "Images answered", registry=own)
        self.refused = Counter("refused", "Images and requests refused", ["reason"], registry=own)
        self.seconds = Histogram("request_seconds", "Time to answer a request", registry=own)
        gauge = Gauge("images_in_progress", "Images accepted and not yet answered", registry=own)
        gauge.set_function(lambda: self.in_progress)

    @abstractmethod
    def compute(self, items: Sequence[Any]) -> Sequence[Any]:
        """Run the network on a batch of items and return the result of each; in one thread."""

    @abstractmethod
    def routes(self) -> APIRouter:
        """Return the paths that this kind of model answers."""

    async def in_thread(self, function: Callable[..., Result], *args: Any) -> Result:
        """Call a function that works on pixels beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *args)

    @contextlib.asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Measure and limit the time of a request."""
        start = time.perf_counter()
        try:
            async with asyncio.timeout(self.limits.timeout):
                yield
        except TimeoutError:
            self.refused.labels("timeout").inc()
            raise HTTPException(503, f"no answer within {self.limits.timeout:g} seconds") from None
        finally:
            self.seconds.observe(time.perf_counter() - start)

    @contextlib.contextmanager
    def places(self, count: int) -> Iterator[None]:
        """Hold places in the queue for `count` images.

        Raises HTTPException 429, before anything is decoded, if not all of them fit.
        """
        if self.in_progress + count > self.limits.queue:
            self.refused.labels("queue full").inc()
            detail = "too many images are waiting: try again later"
            raise HTTPException(429, detail, headers={"Retry-After": "1"})
        self.in_progress += count
        try:
            yield
            self.images.inc(count)
        finally:
            self.in_progress -= count
