"""Measure the service of a classifier: throughput and latency beside the bare network, endurance.

python -m src.bench.serve run=RUN                    throughput at each batch size, then latency
python -m src.bench.serve run=RUN images=PHOTOS      send these photos
python -m src.bench.serve run=RUN minutes=10         also ten minutes with bad uploads mixed in

The bare network computes on float images that are ready, in a process with the same threads as the
service. The service gets one JPEG per request over HTTP keep-alive, from a client in a process of
its own on the same machine. For the throughput, twice as many clients as the batch size send one
request after the other. For the latency, half of the throughput at batch size 16 comes at fixed
times; a latency counts from the time when its request was due.
"""

import contextlib
import io
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from src.bench.load import Load, Request, at_rate, saturate
from src.config import cli
from src.config.saved import expect_classifier
from src.core.errors import UserError
from src.core.inputs import find_images
from src.core.waiting import wait_passively

LATENCY_BATCH = 16  # the service's default
BAD_EVERY = 20  # one request in 20 is a bad upload
WARM_UP = 3.0  # seconds
GENERATED = (16, 375, 500)  # photos, rows, columns


def bench_serve(cfg: DictConfig) -> dict[str, Any]:
    """Measure the service of cfg.run; print and return the results."""
    folder = Path(cfg.run).expanduser()
    expect_classifier(folder)
    photos = _photos(cfg.images)
    requests = [_upload(photo) for photo in photos]

    wait_passively()  # as the service does

    import torch

    from src.engine.load import load_classifier

    net = load_classifier(folder)
    kilobytes = statistics.mean(map(len, photos)) / 1000
    print(f"{len(photos)} photos of {kilobytes:.0f} kB, {torch.get_num_threads()} threads")
    ratios, bare_latency, capacity = {}, _bare(net, 1, cfg.seconds).latency, 0.0
    for size in cfg.batch_sizes:
        bare = _bare(net, size, cfg.seconds)
        clients = 2 * size
        with service(folder, f"batch_size={size}", f"queue={max(64, clients)}") as running:
            saturate(running.port, requests, clients, WARM_UP)
            load = saturate(running.port, requests, clients, cfg.seconds)
        rate = len(load.latencies) / load.seconds
        ratios[size] = rate / bare.rate
        if size == LATENCY_BATCH or not capacity:
            capacity = rate
        print(
            f"batch {size:2}: bare net {bare.rate:6.1f} images/s   service {rate:6.1f} images/s   "
            f"ratio {ratios[size]:.2f}{_failed(load)}",
            flush=True,
        )
    if not capacity:
        raise UserError(f"images={cfg.images}: the service answered no request{_failed(load)}")
    results = {"ratios": ratios, "bare_latency": bare_latency, "capacity": capacity}
    with service(folder) as running:
        saturate(running.port, requests, 2, WARM_UP)
        load = at_rate(running.port, requests, capacity / 2, 4 * cfg.seconds)
        results |= _report_latency("half load", load, bare_latency)
        if cfg.minutes:
            _endure(running, requests, capacity / 2, cfg.minutes, bare_latency)
    return results


class Bare(NamedTuple):
    """Speed of the bare network: images per second, and the median seconds of a batch."""

    rate: float
    latency: float


def _bare(trained: Any, size: int, seconds: float) -> Bare:
    """Time the network alone on batches of `size` images."""
    import torch

    images = torch.rand(size, *trained.fit.shape)
    times: list[float] = []
    with torch.no_grad():
        for _ in range(3):
            trained.net(images)
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            trained.net(images)
            times.append(time.perf_counter() - start)
    return Bare(size * len(times) / sum(times), statistics.median(times))


class Running(NamedTuple):
    """A service in a process of its own."""

    port: int
    process: subprocess.Popen[str]

    @property
    def memory(self) -> float:
        """Resident memory, in megabytes; NaN where the system has no /proc."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return float("nan")
        return int(status.partition("VmRSS:")[2].split()[0]) / 1000


@contextlib.contextmanager
def service(folder: Path, *settings: str) -> Iterator[Running]:
    """Run `python -m src.serve` on a free port; stop it with SIGTERM.

    Raises UserError if it does not start.
    """
    words = [sys.executable, "-m", "src.serve", f"run={folder}", "port=0", *settings]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://[\d.]+:(\d+)", process.stdout.readline())
        if found is None:
            raise UserError(f"run={folder}: the service did not start")
        yield Running(int(found[1]), process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _endure(
    running: Running, good: Sequence[Request], rate: float, minutes: float, bare: float
) -> None:
    """Send photos and bad uploads for some minutes; print latencies, failures and memory."""
    bad = _bad_uploads(good[0])
    mixed = [
        bad[i // BAD_EVERY % len(bad)] if i % BAD_EVERY == 0 else good[i % len(good)]
        for i in range(BAD_EVERY * len(bad) * len(good))
    ]
    at_rate(running.port, mixed, rate, 10 * WARM_UP)
    memory = [running.memory]
    parts = max(1, round(minutes))
    for number in range(1, parts + 1):
        load = at_rate(running.port, mixed, rate, 60 * minutes / parts)
        memory.append(running.memory)
        _report_latency(f"part {number} of {parts}", load, bare)
        print(f"  memory {memory[-1]:.0f} MB (at the start {memory[0]:.0f} MB)", flush=True)


def _report_latency(name: str, load: Load, bare: float) -> dict[str, float]:
    """Print and return the median and the 99th percentile of the latencies, in seconds."""
    ordered = sorted(load.latencies)
    if not ordered:
        raise UserError(f"{name}: no request was answered in time; try a larger seconds=")
    p50, p99 = (ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.5, 0.99))
    print(
        f"{name}: {len(ordered) / load.seconds:.1f} requests/s   p50 {1000 * p50:.1f} ms   "
        f"p99 {1000 * p99:.1f} ms   bare net {1000 * bare:.1f} ms   p99 / bare {p99 / bare:.2f}"
        f"{_failed(load)}",
        flush=True,
    )
    return {"p50": p50, "p99": p99}


def _failed(load: Load) -> str:
    failures = load.failures
    return f"   {len(failures)} failed, the first: {failures[0]}" if failures else ""


def _photos(images: Any) -> list[bytes]:
    """Return the JPEG files that `images` names; generated ones for None."""
    if images is not None:
        named = [images] if isinstance(images, str) else list(images)
        return [path.read_bytes() for path in find_images(named)]
    import numpy as np
    from PIL import Image

    count, height, width = GENERATED
    noise, files = np.random.default_rng(0), []
    for _ in range(count):
        coarse = noise.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        photo = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        photo.save(buffer, "JPEG", quality=92)
        files.append(buffer.getvalue())
    return files


def _upload(content: bytes, field: str = "files", good: bool = True) -> Request:
    """Return a request that uploads a file."""
    boundary = "a" * 32
    part = f'Content-Disposition: form-data; name="{field}"; filename="photo.jpg"'
    body = f"--{boundary}\r\n{part}\r\n\r\n".encode() + content + f"\r\n--{boundary}--".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    head = (
        f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return Request(head.encode() + body, good)


def _bad_uploads(good: Request) -> list[Request]:
    """Return uploads that have no prediction."""
    from PIL import Image

    large = io.BytesIO()
    Image.new("L", (10_000, 9_000)).save(large, "PNG")
    photo = good.data.partition(b'photo.jpg"\r\n\r\n')[2]
    contents = (b"", b"not an image", photo[: len(photo) // 3], large.getvalue())
    return [
        *(_upload(content, good=False) for content in contents),
        _upload(photo, field="other", good=False),
    ]


if __name__ == "__main__":
    sys.exit(cli.command("bench_serve", bench_serve, __doc__ or ""))
