"""The web application of a trained classifier: a page, and a JSON API."""

import asyncio
import base64
import binascii
import contextlib
import hmac
import io
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi_offline import FastAPIOffline
from PIL import Image
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from pydantic import BaseModel
from starlette.datastructures import UploadFile as Upload
from starlette.formparsers import MultiPartParser
from torch import Tensor

from src.core.pixels import to_float
from src.engine.load import LoadedClassifier
from src.models.normalize import normalized
from src.serve.batcher import Batcher, QueueFull
from src.serve.uploads import BadImage, read_upload
from src.viz import explain, grids

PAGE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Limits:
    """Limits on the requests of clients; see conf/serve.yaml."""

    batch_size: int
    queue: int
    timeout: float
    max_megabytes: float
    max_megapixels: float
    max_files: int


class ClassProbability(BaseModel):
    """One class, and how probable it is."""

    name: str
    probability: float


class Prediction(BaseModel):
    """The answer for one image; the classes are sorted, the most likely first.

    `unlike` is true for an image unlike all that the classifier learned from, and null if it cannot
    tell. `heat_map` is a PNG, in base64, of where the evidence for the first class is; null unless
    it was asked for. `error` says why an image has no answer.
    """

    file: str
    classes: list[ClassProbability] = []
    unlike: bool | None = None
    heat_map: str | None = None
    error: str | None = None


class Base64Images(BaseModel):
    """Images as base64, for clients without multipart forms."""

    images: list[str]


class Service:
    """A classifier, its queue and its counters.

    Args:
        trained: the classifier.
        about: facts about the run, for `GET /model`.
        limits: on the requests of clients.
    """

    def __init__(self, trained: LoadedClassifier, about: dict[str, Any], limits: Limits) -> None:
        self.trained, self.about, self.limits = trained, about, limits
        self.batcher = Batcher(self._answer, limits.batch_size, limits.queue)
        self.decoders = ThreadPoolExecutor(thread_name_prefix="decoder")
        self.registry = CollectorRegistry()
        own = self.registry
        self.images = Counter("images", "Images answered", registry=own)
        self.refused = Counter("refused", "Images and requests refused", ["reason"], registry=own)
        self.seconds = Histogram("request_seconds", "Time to answer a request", registry=own)
        waiting = Gauge("waiting_images", "Images in the queue", registry=own)
        waiting.set_function(lambda: len(self.batcher.waiting))
        self.layer = self._heat_map_layer()

    def _answer(self, images: Sequence[Tensor]) -> list[tuple[Tensor, bool]]:
        answer = self.trained.answer(to_float(torch.stack(list(images))))
        return list(zip(answer.probabilities, answer.unlike.tolist(), strict=True))

    def _heat_map_layer(self) -> Any:
        """Return the module whose maps explain a prediction; None if there is none."""
        trained = self.trained
        blank = torch.zeros(1, trained.channels, *trained.size)
        name = explain.find_cam_layer(trained.net.net, self._normalized(blank))
        return None if name is None else trained.net.net.get_submodule(name)

    def _normalized(self, images: Tensor) -> Tensor:
        net = self.trained.net
        return normalized(images, net.mean, net.std, net.in_channels)

    def heat_map(self, image: Tensor, label: int) -> str | None:
        """Return Grad-CAM over an image (C, H, W) uint8, as a PNG in base64."""
        if self.layer is None:
            return None
        images = to_float(image.unsqueeze(0))
        heat = explain.grad_cam(
            self.trained.net.net, self.layer, self._normalized(images), torch.tensor([label])
        )
        pixels = (grids.overlay_heatmap(images, heat)[0] * 255).round().byte()
        buffer = io.BytesIO()
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(buffer, "PNG")
        return base64.b64encode(buffer.getvalue()).decode()

    async def predict(
        self, files: Sequence[tuple[str, bytes]], with_heat_map: bool
    ) -> list[Prediction]:
        """Return the answer for each file: its name and its bytes."""
        loop = asyncio.get_running_loop()

        async def decode(name: str, content: bytes) -> Tensor | Prediction:
            try:
                return await loop.run_in_executor(
                    self.decoders,
                    read_upload,
                    content,
                    self.trained.prepare,
                    self.limits.max_megapixels,
                )
            except BadImage as error:
                self.refused.labels("bad image").inc()
                return Prediction(file=name, error=str(error))

        decoded = await asyncio.gather(*(decode(name, content) for name, content in files))
        images = [one for one in decoded if isinstance(one, Tensor)]
        results = iter(await self.batcher.submit(images) if images else [])
        predictions = []
        for (name, _), one in zip(files, decoded, strict=True):
            if isinstance(one, Prediction):
                predictions.append(one)
                continue
            probabilities, unlike = next(results)
            predictions.append(self._describe(name, probabilities, unlike))
            if with_heat_map:
                label = int(probabilities.argmax())
                thread = self.batcher.thread
                predictions[-1].heat_map = await loop.run_in_executor(
                    thread, self.heat_map, one, label
                )
        self.images.inc(len(images))
        return predictions

    def _describe(self, name: str, probabilities: Tensor, unlike: bool) -> Prediction:
        names, order = self.trained.class_names, probabilities.argsort(descending=True).tolist()
        values = probabilities.tolist()
        return Prediction(
            file=name,
            classes=[ClassProbability(name=names[k], probability=values[k]) for k in order],
            unlike=None if self.trained.familiar is None else unlike,
        )


def _from_base64(number: int, text: str) -> bytes:
    """Return the bytes of an image; a data URL is allowed too."""
    try:
        return base64.b64decode(text.rpartition(",")[2], validate=True)
    except (binascii.Error, ValueError):
        raise HTTPException(422, f"image {number} is not base64") from None


def _bodies() -> dict[str, Any]:
    """Return the two kinds of body of `POST /predict`, for OpenAPI."""
    binary = {"type": "string", "format": "binary"}
    files = {"type": "array", "items": binary, "description": "one or several images"}
    form = {"type": "object", "required": ["files"], "properties": {"files": files}}
    return {
        "multipart/form-data": {"schema": form},
        "application/json": {"schema": Base64Images.model_json_schema()},
    }


def create_app(service: Service, token: str | None) -> FastAPI:
    """Return the application.

    Args:
        service: answers the requests.
        token: that every request but `GET /health` must send; None: none.
    """
    limits = service.limits
    MultiPartParser.spool_max_size = int(1e6 * limits.max_megabytes) + 1  # never to a file

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(service.batcher.run())
        yield
        running.cancel()

    def authorized(authorization: Annotated[str | None, Header()] = None) -> None:
        given = (authorization or "").removeprefix("Bearer ")
        if token is not None and not hmac.compare_digest(given.encode(), token.encode()):
            raise HTTPException(401, "send the header 'Authorization: Bearer TOKEN'")

    app = FastAPIOffline(title="Atelier", version="1", lifespan=lifespan)
    secured = [Depends(authorized)]

    async def answered(files: list[tuple[str, bytes]], with_heat_map: bool) -> list[Prediction]:
        start = time.perf_counter()
        try:
            async with asyncio.timeout(limits.timeout):
                return await service.predict(files, with_heat_map)
        except QueueFull:
            service.refused.labels("queue full").inc()
            raise HTTPException(429, "too many images are waiting: try again later") from None
        except TimeoutError:
            service.refused.labels("timeout").inc()
            raise HTTPException(503, f"no answer within {limits.timeout:g} seconds") from None
        finally:
            service.seconds.observe(time.perf_counter() - start)

    @app.middleware("http")
    async def limit_body(request: Request, call_next: Any) -> Response:
        length = request.headers.get("content-length", "")
        most = 1.4e6 * limits.max_megabytes * limits.max_files  # base64 needs a third more
        if request.method == "POST" and (not length.isdecimal() or int(length) > most):
            service.refused.labels("too large").inc()
            return JSONResponse({"detail": "the request is too large, or has no length"}, 413)
        return await call_next(request)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        return PAGE.read_text(encoding="utf-8")

    @app.post(
        "/predict",
        dependencies=secured,
        response_model=list[Prediction],
        openapi_extra={"requestBody": {"content": _bodies(), "required": True}},
    )
    async def predict(request: Request, explain: bool = False) -> list[Prediction]:
        """Classify images: files of a form, or base64 in JSON.

        With explain=true each answer has a heat map of where the evidence is.
        """
        if request.headers.get("content-type", "").startswith("application/json"):
            try:
                body = Base64Images.model_validate_json(await request.body())
            except ValueError as error:
                raise HTTPException(422, 'send {"images": ["BASE64", ...]}') from error
            files = [(str(i), _from_base64(i, text)) for i, text in enumerate(body.images)]
        else:
            async with request.form() as form:
                uploads = [part for part in form.getlist("files") if isinstance(part, Upload)]
                files = [(part.filename or "image", await part.read()) for part in uploads]
        if not 1 <= len(files) <= limits.max_files:
            raise HTTPException(422, f"send from 1 to {limits.max_files} images")
        if any(len(content) > 1e6 * limits.max_megabytes for _, content in files):
            service.refused.labels("too large").inc()
            raise HTTPException(413, f"an image has more than {limits.max_megabytes:g} MB")
        return await answered(files, explain)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Return ok while the service answers."""
        return {"status": "ok"}

    @app.get("/model", dependencies=secured)
    async def model() -> dict[str, Any]:
        """Return the classes, the network, its accuracy and when it was trained."""
        return service.about

    @app.get("/metrics", dependencies=secured)
    async def metrics() -> Response:
        """Return counters and times for Prometheus."""
        return Response(generate_latest(service.registry), media_type=CONTENT_TYPE_LATEST)

    return app
