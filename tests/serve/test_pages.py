"""The services of generative runs, in this process."""

import json
import re

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from src.core.randomness import generator
from src.serve.app import create_app
from src.serve.load import load_service
from src.serve.service import Limits
from src.serve.translation import Stylist
from tests.conftest import command, wrong
from tests.serve.images import encoded, noise, pixels_of

LIMITS = Limits(4, 12, 60, 1, 1, 6)
KINDS = {
    "cdcgan": "Walk through latent space",
    "vae": "Walk through latent space",
    "draw": "Paint step by step",
    "cyclegan": "Translate photos",
    "style_transfer_own": "Photos in the style of a picture",
    "fc": "Recognize photos",
}


@pytest.fixture(scope="module")
def client_of(run_of):
    """Return a function: a choice of model= -> a client of its service, and the service."""
    clients = {}

    def client(model):
        if model not in clients:
            service = load_service(run_of(model), LIMITS)
            clients[model] = TestClient(create_app(service, None)).__enter__(), service
        return clients[model]

    yield client
    for one, _ in clients.values():
        one.__exit__(None, None, None)


def photo(height, width, **more):
    return {"files": [("files", ("a.png", encoded(noise(height, width, 3), **more)))]}


@pytest.mark.parametrize("model", KINDS)
def test_every_kind_of_run_has_a_page_without_links_to_the_internet(client_of, model):
    client, service = client_of(model)
    page = client.get("/")
    assert f"<h1>{KINDS[model]}</h1>" in page.text
    assert not re.search(r"https?://", page.text)
    about = client.get("/model").json()
    assert about["size"] == service.about["size"]
    assert "/" not in "".join(map(str, about.values())), "no paths"
    schema = client.get("/openapi.json").json()
    posts = [path for path, verbs in schema["paths"].items() if "post" in verbs]
    assert len(posts) == 1
    assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize("model", ["cdcgan", "vae"])
def test_latents_are_decoded_as_given_by_seed_or_by_value(client_of, model):
    client, service = client_of(model)
    first = client.post("/generate", json={"seed": 3, "n": 4}).json()
    assert client.post("/generate", json={"seed": 3, "n": 4}).json() == first
    assert client.post("/generate", json={"seed": 4, "n": 4}).json()["z"] != first["z"]
    samples = service.model.sample(4, generator(3, "sample"))
    for png, sample in zip(first["images"], samples, strict=True):
        assert np.abs(pixels_of(png) / 255 - sample[0].numpy()).max() <= 0.51 / 255
    again = client.post("/generate", json={"seed": 9, "z": first["z"]}).json()
    assert again["images"] == first["images"]


@pytest.mark.parametrize("model", ["cdcgan", "vae"])
def test_shifts_move_along_the_directions(client_of, model):
    client, service = client_of(model)
    size = service.about["latent_dim"]
    assert service.directions.shape == (min(8, size), size)
    plain = client.post("/generate", json={"z": [[0.5] * size]}).json()
    moved = client.post("/generate", json={"z": [[0.5] * size], "shifts": [0, -2]}).json()
    z = 0.5 - 2 * service.directions[1:2]
    by_value = client.post("/generate", json={"z": z.tolist()}).json()
    assert moved["z"] == plain["z"]
    difference = pixels_of(moved["images"][0]).astype(int) - pixels_of(by_value["images"][0])
    assert np.abs(difference).max() <= 1
    assert moved["images"] != plain["images"]


def test_label_chooses_the_class_of_a_conditional_model(client_of):
    client, service = client_of("cdcgan")
    assert client.get("/model").json()["classes"] == [str(k) for k in range(10)]
    answer = client.post("/generate", json={"seed": 1, "n": 2, "label": 7}).json()
    labels = torch.tensor([7, 7])
    samples = service.model.sample(2, generator(1, "sample"), labels)
    for png, sample in zip(answer["images"], samples, strict=True):
        assert np.abs(pixels_of(png) / 255 - sample[0].numpy()).max() <= 0.51 / 255


@pytest.mark.parametrize(
    ("model", "asked", "words"),
    [
        ("vae", {"z": [[1.0]]}, "each z must have 4 numbers"),
        ("vae", {"z": []}, "ask for 1 to 6 images"),
        ("vae", {"n": 7}, "ask for 1 to 6 images"),
        ("vae", {"shifts": [0.0] * 9}, "shifts has at most 4 numbers"),
        ("vae", {"label": 0}, "label must be null"),
        ("cdcgan", {"label": 10}, "label must be from 0 to 9"),
        ("draw", {"n": 7}, "ask for 1 to 6 images"),
        ("draw", {"seed": -1}, "greater than or equal to 0"),
        ("vae", {"z": [["a"]]}, "valid number"),
        ("vae", {"shifts": [float("inf")]}, "finite number"),
        ("vae", {"shifts": [1e300]}, "finite in float32"),
        ("vae", {"z": [[1e300] * 4]}, "finite in float32"),
        ("vae", {"sead": 1}, "sead: Extra inputs are not permitted"),
        ("draw", {"z": [[1.0]]}, "z: Extra inputs are not permitted"),
    ],
)
def test_request_that_does_not_fit_the_model_is_explained(client_of, model, asked, words):
    content = json.dumps(asked)  # httpx refuses to write infinity
    headers = {"Content-Type": "application/json"}
    answer = client_of(model)[0].post("/generate", content=content, headers=headers)
    assert answer.status_code == 422
    assert words in answer.text


@pytest.mark.parametrize(
    ("content", "headers"), [("{", {"Content-Type": "application/json"}), ('{"n": 2}', {})]
)
def test_body_that_is_no_json_object_is_explained(client_of, content, headers):
    answer = client_of("vae")[0].post("/generate", content=content, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("send a JSON object with the header")


@pytest.mark.parametrize("model", ["vae", "draw"])
def test_body_that_is_larger_than_any_request_is_not_read(client_of, model):
    assert client_of(model)[0].post("/generate", content=b" " * 20_000).status_code == 413


def test_painting_has_a_canvas_and_a_window_for_each_step(client_of):
    client, service = client_of("draw")
    answer = client.post("/generate", json={"seed": 2, "n": 3}).json()
    canvases = service.model.canvases(3, generator(2, "sample"))
    assert len(answer["images"]) == 3
    for i, painting in enumerate(answer["images"]):
        assert painting["image"] == painting["steps"][-1]
        assert len(painting["steps"]) == len(painting["windows"]) + 1 == len(canvases.frames)
        for png, frame in zip(painting["steps"], canvases.frames[:, i], strict=True):
            assert np.abs(pixels_of(png) / 255 - frame[0].numpy()).max() <= 0.51 / 255
        rows = [list(window.values()) for window in painting["windows"]]
        assert np.allclose(rows, canvases.windows["write"][:, i].numpy())
        assert list(painting["windows"][0]) == ["top", "left", "bottom", "right", "sigma"]


@pytest.mark.parametrize("to", ["a", "b"])
def test_photo_is_translated_in_its_own_shape_in_both_directions(client_of, to):
    client, service = client_of("cyclegan")
    answer = client.post(f"/translate?to={to}", **photo(32, 128)).json()[0]
    made = pixels_of(answer["image"])
    assert made.shape == (8, 32, 3), "as many pixels as 16 x 16"
    same_size = noise(16, 16, 3)
    files = [("files", ("a.png", encoded(same_size)))]
    answer = client.post(f"/translate?to={to}", files=files).json()[0]
    x = torch.from_numpy(same_size).permute(2, 0, 1)[None] / 255
    expected = service.model.translate(x, to)[0].permute(1, 2, 0).numpy()
    assert np.abs(pixels_of(answer["image"]) / 255 - expected).max() <= 0.51 / 255


def test_photo_that_cannot_be_translated_gets_its_reason(client_of):
    client, _ = client_of("cyclegan")
    files = [("files", ("long.png", encoded(noise(1, 4000)))), ("files", ("bad", b"?"))]
    answers = client.post("/translate", files=[*files, *photo(20, 20)["files"]]).json()
    assert "too small" in answers[0]["error"]
    assert "not a readable image" in answers[1]["error"]
    assert answers[2]["error"] is None
    assert client.post("/translate?to=c", **photo(20, 20)).status_code == 422


def test_photo_on_its_side_keeps_its_shape(client_of):
    client, _ = client_of("cyclegan")
    on_its_side = encoded(noise(32, 128, 3), exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0"
                          b"\x01\0\0\0\x06\0\0\0\0\0\0\0")  # fmt: skip
    answer = client.post("/translate", files=[("files", ("a.png", on_its_side))]).json()[0]
    assert pixels_of(answer["image"]).shape == (32, 8, 3)


def test_style_run_shows_its_pictures_and_optimizes_photos(client_of):
    client, service = client_of("style_transfer_own")
    example = client.get("/example").json()
    assert {pixels_of(png).shape for png in example.values()} == {(16, 16, 3)}
    made = client.post("/stylize", **photo(16, 16)).json()[0]
    x = torch.from_numpy(noise(16, 16, 3)).permute(2, 0, 1)[None] / 255
    expected = service.model.translate(x)[0].permute(1, 2, 0).numpy()
    assert np.abs(pixels_of(made["image"]) / 255 - expected).max() <= 0.51 / 255
    two = [("files", (name, encoded(noise(16, 16, 3)))) for name in ("a.png", "b.png")]
    refused = client.post("/stylize", files=two)
    assert (refused.status_code, refused.json()["detail"]) == (422, "send one image in a request")


def test_steps_of_a_style_run_are_lowered_to_what_the_timeout_allows(run_of, monkeypatch):
    clock = iter([0.0, 20.0])
    monkeypatch.setattr("src.serve.translation.time.perf_counter", lambda: next(clock))
    service = load_service(run_of("style_transfer_own"), LIMITS)
    assert isinstance(service, Stylist)
    assert service.about["num_steps"] == 1
    assert service.about["num_steps_of_run"] == 2


def test_run_without_images_is_refused_in_one_line(words_run):
    assert "holds a WordVectors; give the run of a model of images" in wrong(
        command("serve", f"run={words_run}")
    )
