"""The service of DRAW: images that are painted step by step."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field
from torch import Tensor

from src.callbacks.protocols import CanPaint
from src.core.randomness import generator
from src.serve.generation import Seed
from src.serve.pictures import to_png
from src.serve.service import Limits, Service


class PaintingRequest(BaseModel, extra="forbid"):
    """Paintings to draw; the same seed gives the same."""

    seed: Seed = 0
    n: Annotated[int, Field(ge=1, description="number of images")] = 1


class Window(BaseModel):
    """The window in which a step writes, in pixels.

    `top`, `left`, `bottom` and `right` are the centers of the outer filters; 0 is the center of the
    first pixel. `sigma` is the standard deviation of the filters.
    """

    top: float
    left: float
    bottom: float
    right: float
    sigma: float


class Painting(BaseModel):
    """An image and its canvases as PNGs in base64; the first canvas is blank.

    `windows` has one entry fewer than `steps`; it is empty for a model without attention.
    """

    image: str
    steps: list[str]
    windows: list[Window]


class Paintings(BaseModel):
    """The answer to a request."""

    seed: int
    images: list[Painting]


class Painter(Service):
    """Draw samples, and show how they came about.

    Args:
        model: the trained model.
        about, limits: see `Service`.
    """

    page = "painting.html"

    def __init__(self, model: CanPaint, about: dict[str, Any], limits: Limits) -> None:
        super().__init__(about, limits)
        self.model, self.max_body = model, 10_000
        self.batcher.batch_size = 1  # a request is an item, since its seed draws all its images

    def compute(self, items: Sequence[PaintingRequest]) -> list[tuple[Tensor, Tensor | None]]:
        """Return the frames (T + 1, n, C, H, W) and writing windows (T, n, 5) of each request."""
        results = []
        for asked in items:
            canvases = self.model.canvases(asked.n, generator(asked.seed, "sample"))
            results.append((canvases.frames, canvases.windows.get("write")))
        return results

    def routes(self) -> APIRouter:
        """Return `POST /generate`."""
        router = APIRouter()

        @router.post("/generate")
        async def generate(asked: PaintingRequest) -> Paintings:
            """Generate images, with the canvas after each step and the window of each step."""
            if asked.n > self.limits.max_files:
                raise HTTPException(422, f"ask for 1 to {self.limits.max_files} images")
            async with self.answering():
                with self.places(asked.n):
                    ((frames, windows),) = await self.batcher.submit([asked])
                    paintings = [
                        await self.in_thread(
                            _painting, frames[:, i], None if windows is None else windows[:, i]
                        )
                        for i in range(asked.n)
                    ]
            return Paintings(seed=asked.seed, images=paintings)

        return router


def _painting(frames: Tensor, windows: Tensor | None) -> Painting:
    """Return one image from its frames (T + 1, C, H, W) and windows (T, 5)."""
    steps = [to_png(frame) for frame in frames]
    rows = torch.empty(0) if windows is None else windows
    named = [dict(zip(Window.model_fields, row, strict=True)) for row in rows.tolist()]
    return Painting(image=steps[-1], steps=steps, windows=[Window(**row) for row in named])
