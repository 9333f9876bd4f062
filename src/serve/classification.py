"""The service of a classifier: photos in, classes with probabilities out."""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import torch
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from torch import Tensor, nn

from src.core.pixels import to_float
from src.engine.load import LoadedClassifier
from src.models.normalize import normalized
from src.serve.pictures import to_png
from src.serve.service import Limits, Service
from src.serve.uploads import BadImage, Upload, body_schema, read_images, read_uploads
from src.viz import explain, grids


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


class Result(NamedTuple):
    """The numbers of classes and their probabilities, the largest first; see `Prediction`."""

    labels: list[int]
    probabilities: list[float]
    unlike: bool


class Classification(Service):
    """Classify photos.

    Args:
        trained: the classifier.
        about, limits: see `Service`.
    """

    page = "classification.html"

    def __init__(self, trained: LoadedClassifier, about: dict[str, Any], limits: Limits) -> None:
        super().__init__(about, limits)
        self.trained = trained
        self.layer: nn.Module | None = None
        if trained.net.permutation is None:  # else the network sees no picture to draw on
            blank = torch.zeros(1, *trained.fit.shape)
            layer = explain.find_cam_layer(trained.net.net, self._normalized(blank))
            self.layer = None if layer is None else trained.net.net.get_submodule(layer)

    def compute(self, items: Sequence[Tensor]) -> list[Result]:
        """Classify images (C, H, W) uint8."""
        predicted = self.trained.predict(to_float(torch.stack(list(items))))
        values, labels = predicted.probabilities.sort(descending=True)  # once for the batch
        rows = zip(labels.tolist(), values.tolist(), predicted.unlike.tolist(), strict=True)
        return [Result(*row) for row in rows]

    def _normalized(self, images: Tensor) -> Tensor:
        net = self.trained.net
        return normalized(images, net.mean, net.std, net.in_channels)

    def heat_map(self, image: Tensor, label: int) -> str | None:
        """Return Grad-CAM over an image (C, H, W) uint8, as a PNG in base64.

        None if the network has no maps, or if the run permuted the pixels.
        """
        if self.layer is None:
            return None
        images = to_float(image.unsqueeze(0))
        heat = explain.grad_cam(
            self.trained.net.net, self.layer, self._normalized(images), torch.tensor([label])
        )
        return to_png(grids.overlay_heatmap(images, heat)[0])

    async def predict(self, uploads: list[Upload], with_heat_map: bool) -> list[Prediction]:
        """Return the answer for each upload."""
        images = await read_images(uploads, self, self.trained.prepare)
        good = [image for image in images if not isinstance(image, BadImage)]
        results = iter(await self.batcher.submit(good) if good else [])
        predictions = []
        for upload, image in zip(uploads, images, strict=True):
            if isinstance(image, BadImage):
                predictions.append(Prediction(file=upload.name, error=str(image)))
                continue
            result = next(results)
            prediction = self._prediction(upload.name, result)
            if with_heat_map:
                label = result.labels[0]
                prediction.heat_map = await self.batcher.call(self.heat_map, image, label)
            predictions.append(prediction)
        return predictions

    def _prediction(self, name: str, result: Result) -> Prediction:
        names, pairs = self.trained.class_names, zip(*result[:2], strict=True)
        return Prediction(
            file=name,
            classes=[ClassProbability(name=names[k], probability=value) for k, value in pairs],
            unlike=None if self.trained.familiar is None else result.unlike,
        )

    def routes(self) -> APIRouter:
        """Return `POST /predict`."""
        router = APIRouter()

        @router.post("/predict", openapi_extra=body_schema())
        async def predict(
            request: Request,
            explain: Annotated[bool, Query(description="add a heat map to each answer")] = False,
        ) -> list[Prediction]:
            """Classify images: files of a form, or base64 in JSON."""
            async with self.answering():
                uploads = await read_uploads(request, self)
                with self.places(len(uploads)):
                    return await self.predict(uploads, explain)

        return router
