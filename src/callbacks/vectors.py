"""Word vectors in TensorBoard's projector, and the nearest neighbors of frequent words."""

import logging
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from src.callbacks.images import summary_writer
from src.callbacks.trainer_state import datamodule, is_last_epoch
from src.core.errors import optional
from src.core.progress import progress
from src.core.types import PositiveInt
from src.data.sets.reviews import Reviews

log = logging.getLogger(__name__)


@runtime_checkable
class HasWordVectors(Protocol):
    """A model with a vector for each word of its data."""

    def word_vectors(self) -> Tensor:
        """Return the vectors (words, dimensions) without gradient."""


class WordProjector(pl.Callback):
    """Show word vectors at the end of training.

    All vectors go to TensorBoard's projector. The nearest neighbors of the most frequent words, by
    cosine similarity, go to the log and to TensorBoard's text tab.

    Args:
        n: number of words whose neighbors are listed.
    """

    def __init__(self, n: PositiveInt) -> None:
        self.n = n

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not (
            is_last_epoch(trainer)
            and trainer.is_global_zero
            and isinstance(pl_module, HasWordVectors)
        ):
            return
        vectors, words = (
            pl_module.word_vectors().float().cpu(),
            cast(Reviews, datamodule(trainer)).words,
        )
        lines = [
            f"{word}: {', '.join(near)}"
            for word, near in nearest_words(vectors, words, self.n).items()
        ]
        for line in lines:
            log.info("nearest words to %s", line)
        if writer := summary_writer(trainer):
            with optional("could not write TensorBoard's projector", Path(writer.log_dir)):
                writer.add_embedding(
                    vectors, metadata=words, tag="words", global_step=progress(trainer).batch
                )
            writer.add_text("nearest_neighbors", "  \n".join(lines), progress(trainer).batch)


def nearest_words(vectors: Tensor, words: list[str], n: int, each: int = 4) -> dict[str, list[str]]:
    """Return the words whose vectors point in the most similar directions.

    Args:
        vectors: (words, dimensions).
        words: one per vector.
        n: number of words, from the first.
        each: neighbors per word.
    """
    directions = F.normalize(vectors, dim=1)
    similarity = directions[:n] @ directions.T
    similarity.fill_diagonal_(-torch.inf)
    nearest = similarity.topk(min(each, len(words) - 1)).indices
    return {
        word: [words[k] for k in row.tolist()] for word, row in zip(words, nearest, strict=False)
    }
