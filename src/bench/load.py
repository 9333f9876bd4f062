"""Send requests over HTTP/1.1 with keep-alive, as fast as answers come or at fixed times.

The client runs in a process of its own and prepares each request as bytes beforehand, so that it
takes little time from a service on the same machine.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Request(NamedTuple):
    """A request.

    Attributes:
        data: its bytes, with header and body.
        good: whether the service should answer it with a prediction; else with a reason.
    """

    data: bytes
    good: bool = True


class Load(NamedTuple):
    """The answers that a client got.

    Attributes:
        latencies: seconds from the time when each request was due to its right answer.
        failures: requests without the answer that they should have, and why.
        seconds: from the first request to the last answer.
    """

    latencies: list[float]
    failures: list[str]
    seconds: float


def saturate(port: int, requests: Sequence[Request], clients: int, seconds: float) -> Load:
    """Let `clients` send one request after the other for a while."""
    return _in_process(_saturate, port, requests, clients, seconds)


def at_rate(port: int, requests: Sequence[Request], rate: float, seconds: float) -> Load:
    """Send `rate` requests a second at fixed times, whether or not answers come."""
    return _in_process(_at_rate, port, requests, rate, seconds)


def _in_process(function: Callable[..., Any], *args: Any) -> Load:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_run, (function, *args))


def _run(function: Callable[..., Any], *args: Any) -> Load:
    return asyncio.run(function(*args))


class _Client:
    """Connections to a service, which are used again, and the answers that came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.latencies: list[float] = []
        self.failures: list[str] = []

    async def send(self, request: Request, due: float) -> None:
        """Send a request; note its latency since `due`, or its failure."""
        try:
            status, body = await self._answer(request.data)
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            self.failures.append(repr(error))
            return
        if request.good and not (status == 200 and b'"probability"' in body):
            self.failures.append(f"{status} {body[:100]!r} for a photo")
        elif not request.good and not (status in (413, 422) or b'"error":"' in body):
            self.failures.append(f"{status} {body[:100]!r} for a bad upload")
        else:
            self.latencies.append(time.perf_counter() - due)

    async def _answer(self, data: bytes) -> tuple[int, bytes]:
        """Return the status and the body of the answer to `data`.

        A service closes connections that are idle for some seconds. If that happens just when one
        is used again, the request is sent once more, as browsers do (RFC 9112, section 9.3.1).
        """
        if self.idle:
            try:
                return await self._exchange(*self.idle.pop(), data)
            except ConnectionError:
                pass
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise
        return await self._exchange(*await asyncio.open_connection("127.0.0.1", self.port), data)

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes
    ) -> tuple[int, bytes]:
        writer.write(data)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        body = await reader.readexactly(int(length))
        self.idle.append((reader, writer))
        return int(head.split(b" ", 2)[1]), body

    def load(self, start: float) -> Load:
        """Return what was seen since `start`, and close the connections."""
        seconds = time.perf_counter() - start
        for _, writer in self.idle:
            writer.close()
        return Load(self.latencies, self.failures, seconds)


async def _saturate(port: int, requests: Sequence[Request], clients: int, seconds: float) -> Load:
    client, start = _Client(port), time.perf_counter()

    async def work(number: int) -> None:
        while (now := time.perf_counter()) < start + seconds:
            await client.send(requests[number % len(requests)], now)
            number += clients

    await asyncio.gather(*(work(number) for number in range(clients)))
    return client.load(start)


async def _at_rate(port: int, requests: Sequence[Request], rate: float, seconds: float) -> Load:
    client, start = _Client(port), time.perf_counter()
    sent = []
    for number in range(round(rate * seconds)):
        due = start + number / rate
        await asyncio.sleep(due - time.perf_counter())
        sent.append(asyncio.create_task(client.send(requests[number % len(requests)], due)))
    await asyncio.gather(*sent)
    return client.load(start)
