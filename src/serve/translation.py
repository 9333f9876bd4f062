"""The services of CycleGAN and style transfer: photo in, photo out."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from fastapi import APIRouter, Query, Request
from PIL import Image
from pydantic import BaseModel
from torch import Tensor

from src.callbacks.protocols import CanTranslate
from src.core.errors import UserError
from src.core.pixels import to_float
from src.models.style_transfer import StyleTransfer
from src.serve.pictures import to_png
from src.serve.service import Limits, Service
from src.serve.uploads import BadImage, Upload, body_schema, read_images, read_uploads

Domain = Literal["a", "b"]


class Translation(BaseModel):
    """The answer for one image.

    `image` is a PNG in base64. `error` says why an image has no answer.
    """

    file: str
    image: str | None = None
    error: str | None = None


class Translator(Service):
    """Translate photos from one domain into the other.

    Args:
        model: the trained model.
        prepare: an open image and a size (H, W) -> (C, H, W) uint8.
        about, limits: see `Service`. `about` has the `size` of the training images.
    """

    page = "translation.html"

    def __init__(
        self,
        model: CanTranslate,
        prepare: Callable[[Image.Image, tuple[int, int]], Tensor],
        about: dict[str, Any],
        limits: Limits,
    ) -> None:
        super().__init__(about, limits)
        self.model, self._prepare = model, prepare
        self.batcher.batch_size = 1  # photos have different sizes

    def prepare(self, image: Image.Image) -> Tensor:
        """Return an open image with its own aspect ratio, and as many pixels as in training."""
        height, width = self.about["size"]
        rotated = image.getexif().get(0x0112, 1) >= 5  # EXIF: lies on its side
        size = (image.width, image.height) if rotated else (image.height, image.width)
        factor = math.sqrt(height * width / (size[0] * size[1]))
        return self._prepare(image, (max(1, round(size[0] * factor)), round(size[1] * factor) or 1))

    def compute(self, items: Sequence[tuple[Tensor, Domain]]) -> list[Tensor | BadImage]:
        """Translate each image (C, H, W) uint8 into its domain; return images in [0, 1]."""
        return [self._translate(*item) for item in items]

    def _translate(self, image: Tensor, to: Domain) -> Tensor | BadImage:
        try:
            return self.model.translate(to_float(image.unsqueeze(0)), to)[0]
        except ValueError as error:  # too small for the network
            return BadImage(str(error))

    async def translate(self, uploads: list[Upload], to: Domain) -> list[Translation]:
        """Return the answer for each upload."""
        images = await read_images(uploads, self, self.prepare)
        good = [(image, to) for image in images if not isinstance(image, BadImage)]
        results = iter(await self.batcher.submit(good) if good else [])
        answers = []
        for upload, image in zip(uploads, images, strict=True):
            made = image if isinstance(image, BadImage) else next(results)
            if isinstance(made, BadImage):
                answers.append(Translation(file=upload.name, error=str(made)))
            else:
                png = await self.in_thread(to_png, made)
                answers.append(Translation(file=upload.name, image=png))
        return answers

    def routes(self) -> APIRouter:
        """Return `POST /translate`."""
        router = APIRouter()

        @router.post("/translate", openapi_extra=body_schema())
        async def translate(
            request: Request,
            to: Annotated[Domain, Query(description="the domain to translate into")] = "b",
        ) -> list[Translation]:
            """Translate images: files of a form, or base64 in JSON."""
            return await self.answer(request, to)

        return router

    async def answer(self, request: Request, to: Domain) -> list[Translation]:
        """Answer a request with photos."""
        async with self.answering():
            uploads = await read_uploads(request, self)
            with self.places(len(uploads)):
                return await self.translate(uploads, to)


class Example(BaseModel):
    """The pictures of a style run, as PNGs in base64."""

    content: str
    style: str
    result: str


class Stylist(Translator):
    """Optimize photos in the style of a run.

    A request has one photo, which takes a number of optimizer steps. It is lowered, for photos of
    the run's size, so that an answer takes half of the timeout at most.
    """

    page = "style.html"
    model: StyleTransfer

    def __init__(
        self,
        model: StyleTransfer,
        prepare: Callable[[Image.Image, tuple[int, int]], Tensor],
        about: dict[str, Any],
        limits: Limits,
    ) -> None:
        super().__init__(model, prepare, about, replace(limits, max_files=1))
        wanted, model.num_steps = model.num_steps, 1
        start = time.perf_counter()
        model.translate(model.content)
        seconds = time.perf_counter() - start
        model.num_steps = min(wanted, int(limits.timeout / 2 / seconds))
        if model.num_steps == 0:
            raise UserError(f"a step takes {seconds:.1f} seconds: set timeout={4 * seconds:.0f}")
        self.about |= {"num_steps": model.num_steps, "num_steps_of_run": wanted}

    def routes(self) -> APIRouter:
        """Return `POST /stylize` and `GET /example`."""
        router = APIRouter()

        @router.post("/stylize", openapi_extra=body_schema())
        async def stylize(request: Request) -> list[Translation]:
            """Optimize an image in this run's style: a file of a form, or base64 in JSON."""
            return await self.answer(request, "b")

        @router.get("/example")
        async def example() -> Example:
            """Return the pictures that this run was trained on, and its result."""
            model, none = self.model, torch.empty(0)
            pictures = model.compare(none, none, torch.Generator())[0]
            content, style, result = (to_png(picture) for picture in pictures)
            return Example(content=content, style=style, result=result)

        return router
