"""The service of a trained classifier, over HTTP."""

import asyncio
import base64
import io
import json
import re
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import torch
from fastapi import HTTPException, Request
from PIL import Image
from torch import nn

from src.data.decode import Fit
from src.engine.load import LoadedClassifier
from src.models.deployed import DeployedClassifier
from src.models.tta import TTA
from src.serve.batcher import Batcher
from src.serve.classification import Classification
from src.serve.service import Limits
from src.serve.uploads import read_image, read_uploads
from tests.conftest import command, logits_of_the_average, wrong
from tests.serve.images import encoded, noise
from tests.serve.processes import start


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Return five images (5, 28, 28) uint8."""
    return noise(5, 28, 28)


def test_probabilities_of_uploads_are_those_of_the_network(served, averaged_run, digits):
    files = [("files", (f"{i}.png", encoded(one), "image/png")) for i, one in enumerate(digits)]
    answers = httpx.post(f"{served}/predict", files=files).json()
    logits = logits_of_the_average(averaged_run, digits[:, None] / 255)
    expected = torch.from_numpy(logits).softmax(1)
    assert [answer["file"] for answer in answers] == [f"{i}.png" for i in range(5)]
    for answer, row in zip(answers, expected, strict=True):
        by_name = {one["name"]: one["probability"] for one in answer["classes"]}
        assert [by_name[str(k)] for k in range(10)] == pytest.approx(row.tolist(), abs=1e-5)
        shares = [one["probability"] for one in answer["classes"]]
        assert shares == sorted(shares, reverse=True)


def test_base64_gives_the_same_answer_as_a_file(served, digits):
    content = encoded(digits[0])
    upload = httpx.post(f"{served}/predict", files=[("files", ("0", content))]).json()
    text = base64.b64encode(content).decode()
    wrapped = base64.encodebytes(content).decode()
    for given in (text, f"data:image/png;base64,{text}", wrapped):
        assert httpx.post(f"{served}/predict", json={"images": [given]}).json() == upload
    body, headers = json.dumps({"images": [text]}), {"Content-Type": "Application/JSON"}
    assert httpx.post(f"{served}/predict", content=body, headers=headers).json() == upload


def test_photo_is_turned_as_its_exif_says(served, digits):
    upright = encoded(digits[0], "JPEG", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 3  # rotated by 180 degrees
    turned = encoded(np.rot90(digits[0], 2), "JPEG", quality=95, exif=exif)
    first, second = (
        httpx.post(f"{served}/predict", files=[("files", ("a.jpg", content))]).json()[0]
        for content in (upright, turned)
    )
    assert first["classes"][0]["name"] == second["classes"][0]["name"]
    assert first["classes"][0]["probability"] == pytest.approx(
        second["classes"][0]["probability"], abs=0.05
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a readable image"),
        (b"not an image", "not a readable image"),
        (encoded(noise(30, 30))[:500], "damaged"),
        (encoded(np.zeros((1100, 1000), np.uint8)), "1000 x 1100 pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a readable image"),
    ],
)
def test_bad_image_gets_its_reason_and_the_others_their_answer(served, digits, content, words):
    files = [("files", ("bad", content)), ("files", ("good", encoded(digits[0])))]
    answer = httpx.post(f"{served}/predict", files=files)
    bad, good = answer.json()
    assert answer.status_code == 200
    assert words in bad["error"]
    assert bad["classes"] == []
    assert len(good["classes"]) == 10


@pytest.mark.parametrize(("megapixels", "is_read"), [(300, True), (199, False)])
def test_own_limit_on_pixels_may_be_above_that_of_pillow(megapixels: float, is_read: bool):
    buffer = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(buffer, "BMP")
    result = read_image(buffer.getvalue(), lambda image: image.size, megapixels)
    assert (result == (20_000, 10_000)) == is_read
    assert is_read or "20000 x 10000 pixels; at most 199 megapixels" in str(result)


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
def test_wrong_request_gets_a_reason_without_paths(served, request_of, status):
    answer = httpx.post(f"{served}/predict", **request_of())
    assert answer.status_code == status
    assert "src" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x"])
def test_upload_that_the_client_gives_up_is_no_fault_of_the_service(kind):
    messages = iter([
        {"type": "http.request", "body": b"--x", "more_body": True}, {"type": "http.disconnect"},
    ])  # fmt: skip

    async def receive():
        return next(messages)

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}
    service = SimpleNamespace(limits=None)
    with pytest.raises(HTTPException, match="connection was closed") as error:
        asyncio.run(read_uploads(Request(scope, receive), service))
    assert error.value.status_code == 400


def test_run_with_permuted_pixels_has_no_heat_maps():
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    mean, std, image = torch.zeros(1, 1, 1), torch.ones(1, 1, 1), torch.zeros(1, 8, 8).byte()
    for permutation, has_map in ((None, True), (torch.arange(64).flip(0), False)):
        model = SimpleNamespace(measured_net=net, tta=TTA(), in_channels=1, mean=mean, std=std)
        trained = LoadedClassifier(DeployedClassifier(model, permutation), Fit((8, 8), 1), ["a"])
        service = Classification(trained, {}, Limits(1, 1, 1, 1, 1, 1))
        assert (service.heat_map(image, 0) is not None) == has_map


def test_facts_health_metrics_and_documents(served):
    about = httpx.get(f"{served}/model").json()
    assert about["classes"] == [str(k) for k in range(10)]
    assert httpx.get(f"{served}/health").json() == {"status": "ok"}
    assert "images_total" in httpx.get(f"{served}/metrics").text
    schema = httpx.get(f"{served}/openapi.json").json()
    assert set(schema["paths"]["/predict"]["post"]["requestBody"]["content"]) == {
        "multipart/form-data",
        "application/json",
    }
    for path in ("/", "/docs"):
        page = httpx.get(f"{served}{path}").text
        assert not re.search(r"(src|href)=.https?://", page)


@pytest.mark.slow
def test_port_that_is_taken_gets_one_line(averaged_run, served):
    port = served.rpartition(":")[2]
    result = command("serve", f"run={averaged_run}", f"port={port}")
    assert wrong(result).endswith(f"port={port} cannot be used: Address already in use")


@pytest.mark.slow
def test_token_is_needed_once_it_is_set(averaged_run):
    process, address = start(averaged_run, "token=12345")
    try:
        assert httpx.get(f"{address}/model").status_code == 401
        wrong_one = {"Authorization": "Bearer other"}
        assert httpx.get(f"{address}/model", headers=wrong_one).status_code == 401
        right = {"Authorization": "Bearer 12345"}
        assert httpx.get(f"{address}/model", headers=right).status_code == 200
        scheme = httpx.get(f"{address}/openapi.json").json()["components"]["securitySchemes"]
        assert scheme == {"HTTPBearer": {"type": "http", "scheme": "bearer"}}  # /docs can send it
        assert httpx.get(f"{address}/health").status_code == 200
    finally:
        process.kill()
        process.communicate()


def test_token_that_no_header_can_carry_is_refused(averaged_run):
    result = command("serve", f"run={averaged_run}", "token=señal")
    assert "token must have ASCII characters only" in wrong(result)


def test_another_host_without_a_token_is_refused(averaged_run):
    result = command("serve", f"run={averaged_run}", "host=0.0.0.0")
    assert "set token=SECRET" in wrong(result)


def test_waiting_images_share_a_batch():
    sizes: list[int] = []

    def double(images):
        sizes.append(len(images))
        return [2 * image for image in images]

    async def scenario() -> list[list[torch.Tensor]]:
        batcher = Batcher(double, batch_size=4)
        first = [asyncio.create_task(batcher.submit([torch.tensor(i)])) for i in range(6)]
        await asyncio.sleep(0)
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
        batcher = Batcher(fragile, batch_size=1)
        running = asyncio.create_task(batcher.run())
        with pytest.raises(ValueError, match="fault"):
            await batcher.submit([torch.tensor(-1)])
        (good,) = await batcher.submit([torch.tensor(3)])
        running.cancel()
        return int(good)

    assert asyncio.run(scenario()) == 3
