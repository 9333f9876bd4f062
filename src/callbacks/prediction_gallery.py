"""Pictures of a classifier's predictions: worst mistakes, confusion matrix, class accuracies."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor

from src.callbacks.images import log_image, progress_caption, save_image
from src.callbacks.protocols import CanClassify
from src.callbacks.trainer_state import datamodule, is_last_validation, is_power_of_two
from src.core.types import PositiveInt
from src.metrics.intervals import wilson
from src.viz import charts
from src.viz.captions import add_title, draw_predictions

MAX_BARS = 60  # classes in the chart of accuracies


class PredictionGallery(pl.Callback):
    """Write pictures to TensorBoard, and those of the test also to images/test_*.png.

    Validations 1, 2, 4, 8 and so on are drawn, and the last.

    Args:
        n: images to show: mistakes first, and then those that were almost mistakes; each in the
            order of the probability of the true class, the lowest first.

    Attributes:
        prefix: start of the names of the files; `src.evaluate` sets it.
    """

    def __init__(self, n: PositiveInt) -> None:
        self.n, self.prefix = n, ""
        # images, true labels, predictions, probability of the true class, of the predicted class
        self.worst: list[Tensor] = []  # each (<= n, ...)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._keep(pl_module, outputs, batch)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._keep(pl_module, outputs, batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        number = (trainer.current_epoch + 1) // (trainer.check_val_every_n_epoch or 1)
        due = is_power_of_two(number) or is_last_validation(trainer)
        self._draw(trainer, pl_module, "val", due)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._draw(trainer, pl_module, "test", True)

    def _keep(self, model: Any, outputs: Any, batch: tuple[Tensor, Tensor]) -> None:
        if not isinstance(model, CanClassify):
            return
        images, labels = batch
        probabilities = outputs["logits"].softmax(1)
        confidence, predicted = probabilities.max(1)
        true_probability = probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)
        rows = [images, labels, predicted, true_probability, confidence]
        self.worst = self._worst_of([self.worst, rows] if self.worst else [rows])

    def _worst_of(self, several: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        rows = [torch.cat(parts) for parts in zip(*several, strict=True)]
        rank = rows[3] + (rows[1] == rows[2])  # mistakes are below 1, the others above
        order = rank.topk(min(self.n, len(rank)), largest=False).indices
        return [part[order] for part in rows]

    def _draw(self, trainer: pl.Trainer, model: Any, stage: str, due: bool) -> None:
        worst, self.worst = self.worst, []
        if not (due and worst):
            return
        worst = [part.cpu() for part in worst]
        if trainer.world_size > 1:
            several: list[Any] = [None] * trainer.world_size
            dist.all_gather_object(several, worst)
            worst = self._worst_of(several)
        if not trainer.is_global_zero:
            return
        names = datamodule(trainer).class_names
        images, true, predicted, _, confidence = worst
        counts = model.counts
        n, right = int(counts.sum()), int(counts.diag().sum())
        share = f"{stage}: {n - right:,} of {n:,} images wrong ({1 - right / n:.2%})"
        when = progress_caption(trainer)
        mistakes = draw_predictions(images, true, predicted, confidence, names)
        pictures = {
            "mistakes": add_title(
                mistakes, f"{share}\n{when}; lowest probability of the true class first"
            ),
            "confusion": charts.draw_confusion(counts, names, f"{share}\n{when}"),
            "classes": _class_bars(counts, names, stage, when),
        }
        for name, picture in pictures.items():
            if stage == "test":
                save_image(trainer, f"{self.prefix}test_{name}.png", picture)
            log_image(trainer, f"{stage}_{name}", picture)


def _class_bars(counts: Tensor, names: Sequence[str], stage: str, when: str) -> np.ndarray:
    """Draw the accuracy of each class that has images; of many classes, of the worst."""
    totals = counts.sum(1)
    present = totals.nonzero().flatten()
    accuracies = counts.diag()[present] / totals[present]
    title = f"{stage}: accuracy of each class with its 95% interval\n{when}"
    if len(present) > MAX_BARS:
        worst = accuracies.argsort(stable=True)[:MAX_BARS]
        title = title.replace("each class", f"the {MAX_BARS} worst of {len(present)} classes")
        present, accuracies = present[worst], accuracies[worst]
    numbers = [(int(counts[k, k]), int(totals[k])) for k in present.tolist()]
    return charts.draw_bars(
        accuracies.tolist(),
        title,
        names=[f"{names[k]} ({n})" for k, (_, n) in zip(present.tolist(), numbers, strict=True)],
        intervals=[wilson(right, n) for right, n in numbers],
        x_label="accuracy (in brackets: number of images)",
        form=".1%",
    )
