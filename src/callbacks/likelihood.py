"""The importance-weighted estimate of -log p(x) on test images."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from tqdm import tqdm

from src.callbacks.protocols import HasImportanceWeights
from src.core.errors import UserError
from src.core.randomness import derive_seed
from src.metrics.likelihood import importance_weighted
from src.metrics.precision import float32


class ImportanceWeighted(pl.Callback):
    """Log test/iwae_nats (see `importance_weighted`) in addition to the bound, in float32.

    Args:
        samples: k, draws of z per image.
        rows: images times draws in one forward pass; limits the memory.
        seed: seed of the draws; the callback has a separate generator.

    Attributes:
        counts, based_on: see `src.callbacks.final_metrics.Basis`.
    """

    def __init__(self, samples: int, rows: int, seed: int) -> None:
        self.samples, self.rows, self.seed = samples, rows, seed
        self.bar: tqdm | None = None
        self.counts = {"test/iwae_samples": samples}
        self.based_on = {"test/iwae_nats": "test/iwae_samples"}

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(pl_module, HasImportanceWeights):
            raise UserError(
                f"iwae_samples={self.samples}: a {type(pl_module).__name__} has no likelihood to "
                "estimate"
            )
        self.bar = tqdm(
            total=sum(map(int, trainer.num_test_batches)), desc="iwae", disable=None, leave=False
        )

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        x = batch[0]
        noise = torch.Generator(x.device).manual_seed(
            derive_seed(self.seed, "iwae", batch_idx, trainer.global_rank)
        )

        def log_weights(m: int) -> Tensor:
            return pl_module.log_weights(x.repeat(m, 1, 1, 1), noise).view(m, len(x))

        with float32(x.device):
            nats = importance_weighted(log_weights, self.samples, max(1, self.rows // len(x)))
        pl_module.log_means({"test/iwae_nats": nats.mean().float()}, len(x))
        if self.bar:
            self.bar.update()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar:
            self.bar.close()
