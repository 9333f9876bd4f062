"""What a classifier answers: worst mistakes, confusion matrix, accuracy of each class."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from src.callbacks.images import log_image, save_image
from src.callbacks.protocols import CanClassify
from src.callbacks.trainer_state import datamodule, is_last_epoch
from src.core.types import PositiveInt
from src.viz import charts


class PredictionGallery(pl.Callback):
    """To TensorBoard after validation, at each doubling of the epochs and the last; of the test also as images/test_*.png.

    Args:
        n: images shown, those first whose true class got the least probability.
    """

    def __init__(self, n: PositiveInt) -> None:
        self.n = n
        self.worst: list[
            Tensor
        ] = []  # images, true, said, share of the true, share of the said; each (<= n, ...)

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
        epoch = trainer.current_epoch + 1
        self._show(trainer, pl_module, "val", epoch & (epoch - 1) == 0 or is_last_epoch(trainer))

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show(trainer, pl_module, "test", True)

    def _keep(self, model: Any, outputs: Any, batch: tuple[Tensor, Tensor]) -> None:
        if not isinstance(model, CanClassify):
            return
        images, labels = batch
        shares = outputs["logits"].softmax(1)
        share, said = shares.max(1)
        new = [images, labels, said, shares.gather(1, labels.unsqueeze(1)).squeeze(1), share]
        every = (
            [torch.cat(pair) for pair in zip(self.worst, new, strict=True)] if self.worst else new
        )
        order = every[3].topk(min(self.n, len(every[3])), largest=False).indices
        self.worst = [part[order] for part in every]

    def _show(self, trainer: pl.Trainer, model: Any, stage: str, due: bool) -> None:
        kept, self.worst = self.worst, []
        if not (due and kept and trainer.is_global_zero):
            return
        names = datamodule(trainer).class_names
        images, true, said, _, share = (part.cpu() for part in kept)
        counts = model.counts
        held = counts.sum(1).nonzero().flatten()  # a class without images has no accuracy
        of_class = (counts.diag() / counts.sum(1))[held].tolist()
        pictures = {
            "mistakes": charts.draw_predictions(images, true, said, share, names),
            "confusion": charts.draw_confusion(counts, names),
            "classes": charts.draw_bars(
                of_class,
                f"{stage}: accuracy of each class",
                names=[names[k] for k in held.tolist()],
                width=max(640, 16 * len(held)),
            ),
        }
        for name, picture in pictures.items():
            if stage == "test":
                save_image(trainer, f"test_{name}.png", picture)
            log_image(trainer, f"{stage}_{name}", picture)
