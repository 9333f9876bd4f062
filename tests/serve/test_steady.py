"""The service under pressure: signals, full queues, and what it leaves behind."""

import asyncio
import resource
import signal
import socket
import subprocess
import time

import httpx
import pytest
from fastapi import APIRouter, HTTPException

from src.serve.app import create_app
from src.serve.service import Limits, Service
from tests.serve.images import encoded, noise
from tests.serve.processes import start


class Echo(Service):
    """Answer each item with itself."""

    page = "classification.html"

    def compute(self, items):
        return items

    def routes(self):
        router = APIRouter()

        @router.post("/echo")
        async def echo(body: dict[str, int]) -> dict[str, int]:
            return body

        return router


def limits(**changes):
    sizes = {"max_megabytes": 1, "max_megapixels": 1, "max_files": 4}
    return Limits(**({"batch_size": 4, "queue": 4, "timeout": 5} | sizes | changes))


def test_queue_counts_images_until_they_are_answered():
    service = Echo({}, limits(queue=3))
    with service.places(2):
        with pytest.raises(HTTPException) as refused, service.places(2):
            pass
        assert refused.value.status_code == 429
        assert refused.value.headers == {"Retry-After": "1"}
        assert service.refused.labels("queue full")._value.get() == 1
        with service.places(1):
            pass
    with service.places(3):
        pass


def test_request_without_an_answer_in_time_gets_503_and_leaves_the_queue():
    service = Echo({}, limits(timeout=0.05))

    async def ask() -> None:
        async with service.answering():
            with service.places(1):
                await service.batcher.submit([0])  # nothing runs the batcher

    with pytest.raises(HTTPException) as refused:
        asyncio.run(ask())
    assert refused.value.status_code == 503
    assert service.in_progress == 0
    assert service.batcher._next_batch() == []


@pytest.mark.slow
def test_client_that_never_sends_its_body_is_refused():
    app, sent = create_app(Echo({}, limits(timeout=0.05)), token="secret"), []

    async def ask(token: bytes) -> int:
        headers = [(b"content-length", b"1000"), (b"authorization", b"Bearer " + token)]
        scope = {"type": "http", "method": "POST", "path": "/echo", "headers": headers,
                 "query_string": b""}  # fmt: skip

        async def send(message) -> None:
            sent.append(message)

        await asyncio.wait_for(app(scope, asyncio.Event().wait, send), 5)
        return next(one["status"] for one in sent[::-1] if "status" in one)

    assert asyncio.run(ask(b"wrong")) == 401
    assert asyncio.run(ask(b"secret")) == 503


def test_body_longer_than_its_content_length_is_refused():
    app, sent, parts = create_app(Echo({}, limits()), token=None), [], [True, True, False]

    async def receive():
        return {"type": "http.request", "body": b"x" * 1000, "more_body": parts.pop(0)}

    async def send(message) -> None:
        sent.append(message)

    headers = [(b"content-length", b"1500"), (b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "method": "POST", "path": "/echo", "headers": headers,
             "query_string": b""}  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 413


def test_more_images_than_the_queue_holds_are_refused_with_422(averaged_run):
    process, address = start(averaged_run, "queue=2", "max_files=5")
    try:
        files = [("files", (f"{i}.png", encoded(noise(28, 28)))) for i in range(3)]
        refused = httpx.post(f"{address}/predict", files=files)
        assert refused.status_code == 422, "waiting would not help"
        assert refused.json()["detail"] == "send 1 to 2 images in a request"
        assert httpx.post(f"{address}/predict", files=files[:2]).status_code == 200
    finally:
        process.kill()
        process.communicate()


def half_sent(port: int, content: bytes) -> tuple[socket.socket, bytes]:
    """Send the head and a part of an upload; return the connection and the rest."""
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        + content
        + b"\r\n--x--\r\n"
    )
    head = (
        "POST /predict HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(head.encode() + body[:100])
    return connection, body[100:]


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_requests_in_flight_are_answered_before_a_signal_ends_the_service(averaged_run, number):
    process, address = start(averaged_run)
    port = httpx.URL(address).port
    open_ones = [half_sent(port, encoded(noise(28, 28, seed=k))) for k in range(4)]
    assert httpx.get(f"{address}/health").status_code == 200  # so those before have arrived
    process.send_signal(number)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            time.sleep(0.05)
        except ConnectionRefusedError:
            break
    else:
        pytest.fail("new connections are still accepted")
    assert process.poll() is None
    for connection, rest in open_ones:
        connection.sendall(rest)
        answer = b"".join(iter(lambda c=connection: c.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b'"probability"' in answer
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0
    assert stderr == ""


@pytest.mark.slow
def test_client_that_stops_sending_cannot_hold_up_the_end(averaged_run):
    process, address = start(averaged_run, "timeout=1")
    connection, _ = half_sent(httpx.URL(address).port, encoded(noise(28, 28)))
    assert httpx.get(f"{address}/health").status_code == 200  # so the one before has arrived
    assert ended(process) == 0
    assert connection.recv(100).startswith(b"HTTP/1.1 503 ")
    connection.close()


@pytest.mark.slow
def test_signal_right_after_the_start_ends_the_service(averaged_run):
    process, _ = start(averaged_run)
    assert ended(process) == 0


def ended(process: subprocess.Popen[str]) -> int:
    """Send SIGTERM and return the exit code."""
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux")
def test_uploads_are_answered_by_a_process_that_can_write_no_file(averaged_run):
    process, address = start(averaged_run, "max_megabytes=5", "max_megapixels=2")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))
    try:
        large = encoded(noise(1000, 1200, 3))  # 3.6 MB: other servers put it into a temporary file
        files = [("files", (f"{i}.png", large)) for i in range(3)]
        answer = httpx.post(f"{address}/predict", files=files, timeout=60)
        assert answer.status_code == 200, answer.text
        assert [len(one["classes"]) for one in answer.json()] == [10, 10, 10]
    finally:
        process.kill()
        process.communicate()
