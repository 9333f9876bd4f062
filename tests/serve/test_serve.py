"""The service of a trained classifier, over HTTP."""

import asyncio
import base64
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from src.serve.batcher import Batcher, QueueFull
from tests.conftest import ROOT, command, logits_of_the_average, wrong


def png(pixels: np.ndarray, kind: str = "PNG", **more: object) -> bytes:
    """Return an image file of gray pixels (H, W) uint8."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **more)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Return five images (5, 28, 28) uint8."""
    return np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)


def start(run: Path, *settings: str) -> tuple[subprocess.Popen[str], str]:
    """Start the command on a free port; return the process and the service's address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "src.serve", f"run={run}", "port=0", *settings],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    assert found, (line, process.communicate(timeout=60))
    return process, found[0]


@pytest.fixture(scope="module")
def service(averaged_run):
    """Return the address of a service for the MLP in `averaged_run`."""
    process, address = start(averaged_run, "max_megapixels=1", "max_megabytes=1", "max_files=5")
    yield address
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert "Traceback" not in stderr


def test_probabilities_of_uploads_are_those_of_the_network(service, averaged_run, digits):
    files = [("files", (f"{i}.png", png(one), "image/png")) for i, one in enumerate(digits)]
    answers = httpx.post(f"{service}/predict", files=files).json()
    logits = logits_of_the_average(averaged_run, digits[:, None] / 255)
    expected = torch.from_numpy(logits).softmax(1)
    assert [answer["file"] for answer in answers] == [f"{i}.png" for i in range(5)]
    for answer, row in zip(answers, expected, strict=True):
        by_name = {one["name"]: one["probability"] for one in answer["classes"]}
        assert [by_name[str(k)] for k in range(10)] == pytest.approx(row.tolist(), abs=1e-5)
        shares = [one["probability"] for one in answer["classes"]]
        assert shares == sorted(shares, reverse=True)


def test_base64_gives_the_same_answer_as_a_file(service, digits):
    content = png(digits[0])
    upload = httpx.post(f"{service}/predict", files=[("files", ("0", content))]).json()
    text = base64.b64encode(content).decode()
    for given in (text, f"data:image/png;base64,{text}"):
        assert httpx.post(f"{service}/predict", json={"images": [given]}).json() == upload


def test_photo_is_turned_as_its_exif_says(service, digits):
    upright = png(digits[0], "JPEG", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 3  # rotated by 180 degrees
    turned = png(np.rot90(digits[0], 2), "JPEG", quality=95, exif=exif)
    first, second = (
        httpx.post(f"{service}/predict", files=[("files", ("a.jpg", content))]).json()[0]
        for content in (upright, turned)
    )
    assert first["classes"][0]["name"] == second["classes"][0]["name"]
    assert first["classes"][0]["probability"] == pytest.approx(
        second["classes"][0]["probability"], abs=0.05
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no image"),
        (b"not an image", "no image"),
        (png(np.random.default_rng(1).integers(0, 256, (30, 30), np.uint8))[:500], "damaged"),
        (png(np.zeros((1100, 1000), np.uint8)), "1000 x 1100 pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image"),
    ],
)
def test_bad_image_gets_its_reason_and_the_others_their_answer(service, digits, content, words):
    files = [("files", ("bad", content)), ("files", ("good", png(digits[0])))]
    answer = httpx.post(f"{service}/predict", files=files)
    bad, good = answer.json()
    assert answer.status_code == 200
    assert words in bad["error"]
    assert bad["classes"] == []
    assert len(good["classes"]) == 10


@pytest.mark.parametrize(
    ("request_of", "status"),
    [
        (lambda: {"files": [("other", ("a", b""))]}, 422),
        (lambda: {"files": [("files", ("a", b""))] * 6}, 422),
        (lambda: {"files": [("files", ("a", bytes(1_000_001)))]}, 413),
        (lambda: {"content": bytes(8_000_000)}, 413),
        (lambda: {"content": (part for part in [b"a", b"b"])}, 413),
        (lambda: {"json": {"images": ["?"]}}, 422),
        (lambda: {"json": {"pictures": []}}, 422),
    ],
)
def test_wrong_request_gets_a_reason_without_paths(service, request_of, status):
    answer = httpx.post(f"{service}/predict", **request_of())
    assert answer.status_code == status
    assert "src" not in answer.text
    assert "Traceback" not in answer.text


def test_facts_health_metrics_and_documents(service):
    about = httpx.get(f"{service}/model").json()
    assert about["classes"] == [str(k) for k in range(10)]
    assert httpx.get(f"{service}/health").json() == {"status": "ok"}
    assert "images_total" in httpx.get(f"{service}/metrics").text
    schema = httpx.get(f"{service}/openapi.json").json()
    assert set(schema["paths"]["/predict"]["post"]["requestBody"]["content"]) == {
        "multipart/form-data",
        "application/json",
    }
    for path in ("/", "/docs"):
        page = httpx.get(f"{service}{path}").text
        assert not re.search(r"(src|href)=.https?://", page)


@pytest.mark.slow
def test_token_is_needed_once_it_is_set(averaged_run):
    process, address = start(averaged_run, "token=secret")
    try:
        assert httpx.get(f"{address}/model").status_code == 401
        wrong_one = {"Authorization": "Bearer other"}
        assert httpx.get(f"{address}/model", headers=wrong_one).status_code == 401
        right = {"Authorization": "Bearer secret"}
        assert httpx.get(f"{address}/model", headers=right).status_code == 200
        assert httpx.get(f"{address}/health").status_code == 200
    finally:
        process.kill()
        process.communicate()


def test_another_host_without_a_token_is_refused(averaged_run):
    result = command("serve", f"run={averaged_run}", "host=0.0.0.0")
    assert "set token=SECRET" in wrong(result)


def test_waiting_images_share_a_batch_and_too_many_are_refused():
    sizes: list[int] = []

    def double(images):
        sizes.append(len(images))
        return [2 * image for image in images]

    async def scenario() -> list[list[torch.Tensor]]:
        batcher = Batcher(double, batch_size=4, queue=6)
        first = [asyncio.create_task(batcher.submit([torch.tensor(i)])) for i in range(6)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await batcher.submit([torch.tensor(0)])
        running = asyncio.create_task(batcher.run())
        results = await asyncio.gather(*first)
        running.cancel()
        return results

    assert asyncio.run(scenario()) == [[2 * i] for i in range(6)]
    assert sizes == [4, 2]


def test_fault_of_the_network_fails_its_batch_only():
    def fragile(images):
        if any(int(image) < 0 for image in images):
            raise ValueError("fault")
        return images

    async def scenario() -> int:
        batcher = Batcher(fragile, batch_size=1, queue=6)
        running = asyncio.create_task(batcher.run())
        with pytest.raises(ValueError, match="fault"):
            await batcher.submit([torch.tensor(-1)])
        (good,) = await batcher.submit([torch.tensor(3)])
        running.cancel()
        return int(good)

    assert asyncio.run(scenario()) == 3
