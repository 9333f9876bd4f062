"""The service of models with a latent space: GAN and VAE."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field, FiniteFloat
from torch import Tensor

from src.callbacks.protocols import CanDecode
from src.core.randomness import generator
from src.nets.latents import principal_directions
from src.serve.pictures import to_png
from src.serve.service import Limits, Service

DIRECTIONS = 8  # sliders of the page
Seed = Annotated[int, Field(ge=0, lt=2**53, description="the same seed gives the same images")]


class LatentRequest(BaseModel, extra="forbid"):
    """Latents to decode: random ones, or given ones, both perhaps shifted.

    `label` is the number of a class, for a conditional model; null: the classes take turns.
    `shifts` moves all latents along the principal directions, in standard deviations.
    """

    seed: Seed = 0
    n: Annotated[int, Field(ge=1, description="number of random latents")] = 1
    z: list[list[FiniteFloat]] | None = Field(None, description="latents, not random ones")
    label: int | None = None
    shifts: list[FiniteFloat] = Field([], description="along the first directions")


class Generated(BaseModel):
    """Images as PNGs in base64, and the latents, without shifts, that they were made from."""

    seed: int
    z: list[list[float]]
    images: list[str]


class LatentSpace(Service):
    """Decode points of a latent space.

    Args:
        model: the trained model.
        about, limits: see `Service`.
    """

    page = "generation.html"

    def __init__(self, model: CanDecode, about: dict[str, Any], limits: Limits) -> None:
        self.model = model
        self.num_classes: int | None = getattr(model, "num_classes", None)
        self.directions = self._directions()
        facts = {"latent_dim": model.latent_dim, "directions": len(self.directions)}
        super().__init__(about | facts, limits)
        self.max_body = 10_000 + 32 * limits.max_files * model.latent_dim  # characters of z

    def _directions(self) -> Tensor:
        """Return the directions (K, latent_dim) that change images most, within each class."""
        n = max(512, 4 * self.model.latent_dim)
        z = self.model.latents(n, generator(0, "directions"))
        images = self.model.decode(z).flatten(1)
        for k in range(self.num_classes or 1):  # the classes take turns
            one_class = images[k :: self.num_classes or 1]
            one_class -= one_class.mean(0)
        return principal_directions(z[:, : self.model.latent_dim], images, DIRECTIONS)

    def compute(self, items: Sequence[Tensor]) -> list[Tensor]:
        """Return the image (C, H, W) in [0, 1] of each z."""
        return list(self.model.decode(torch.stack(list(items))))

    def latents(self, asked: LatentRequest) -> tuple[Tensor, Tensor]:
        """Return z (n, latent_dim) without shifts, and what to decode.

        Raises HTTPException 422 if the numbers do not fit this model.
        """
        size, count = self.model.latent_dim, len(self.directions)
        if asked.z is not None and any(len(row) != size for row in asked.z):
            raise HTTPException(422, f"each z must have {size} numbers")
        if len(asked.shifts) > count:
            raise HTTPException(422, f"shifts has at most {count} numbers")
        if asked.label is not None and not 0 <= asked.label < (self.num_classes or 0):
            known = f"from 0 to {self.num_classes - 1}" if self.num_classes else "null"
            raise HTTPException(422, f"label must be {known}")
        n = asked.n if asked.z is None else len(asked.z)
        if not 1 <= n <= self.limits.max_files:
            raise HTTPException(422, f"ask for 1 to {self.limits.max_files} images")
        labels = () if asked.label is None else (torch.full((n,), asked.label),)
        latents: Callable[..., Tensor] = self.model.latents
        drawn = latents(n, generator(asked.seed, "sample"), *labels)
        z, condition = drawn[:, :size], drawn[:, size:]  # the classes follow z
        if asked.z is not None:
            z = torch.tensor(asked.z)
        moved = z + torch.tensor(asked.shifts) @ self.directions[: len(asked.shifts)]
        if not moved.isfinite().all():
            raise HTTPException(422, "z and shifts must be finite in float32")
        return z, torch.cat([moved, condition], 1)

    def routes(self) -> APIRouter:
        """Return `POST /generate`."""
        router = APIRouter()

        @router.post("/generate")
        async def generate(asked: LatentRequest) -> Generated:
            """Generate images from random or given latents."""
            async with self.answering():
                z, moved = self.latents(asked)
                with self.places(len(z)):
                    images = await self.batcher.submit(list(moved))
                    pictures = [await self.in_thread(to_png, image) for image in images]
            return Generated(seed=asked.seed, z=z.tolist(), images=pictures)

        return router
