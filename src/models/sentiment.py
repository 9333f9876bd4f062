"""Classify sentences as positive or negative, from the mean of their word vectors."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.core import runs
from src.core.errors import UserError
from src.core.types import Counted, PositiveInt, RunPath
from src.data.sets.reviews import expect_same_words
from src.metrics.accuracy import accuracy
from src.metrics.confusion import ConfusionMatrix
from src.models.base import Family

log = logging.getLogger(__name__)


class Sentiment(Family):
    """A small fully connected network on the mean word vector, trained by cross-entropy.

    Args:
        vocab_size: number of words; they are numbered from 1.
        embedding_dim: length of a word vector.
        hidden_dims: widths of the hidden layers, each followed by tanh.
        init_from: a run of model=word_vectors, whose vectors it starts with; None: random vectors.
        freeze_vectors: do not train the vectors.
        optimizer: parameters -> optimizer.
        schedule: progress in [0, 1) -> factor on the learning rate (see `src.optim.schedules`).
    """

    takes = "sentences"
    sentences = "labeled"
    key_metrics = ("acc", "loss")

    def __init__(
        self,
        vocab_size: Counted,
        embedding_dim: PositiveInt,
        hidden_dims: Sequence[PositiveInt],
        init_from: RunPath | None,
        freeze_vectors: bool,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[float], float],
    ) -> None:
        super().__init__()
        self.init_from, self.optimizer, self.schedule = init_from, optimizer, schedule
        # row 0 stands for no word
        self.vectors = nn.EmbeddingBag(vocab_size + 1, embedding_dim, mode="mean", padding_idx=0)
        self.vectors.requires_grad_(not freeze_vectors)
        layers: list[nn.Module] = []
        for n_in, n_out in zip([embedding_dim, *hidden_dims[:-1]], hidden_dims, strict=True):
            layers += [nn.Linear(n_in, n_out), nn.Tanh()]
        self.net = nn.Sequential(*layers, nn.Linear(hidden_dims[-1], 2))
        self.confusion = ConfusionMatrix(2)

    def load_pretrained(self, datamodule: Any) -> None:
        """Load the word vectors of the run `init_from`; a no-op if it is None.

        Raises:
            UserError: it is not a run of model=word_vectors, or its vectors are for other words or
                of another dimension.
        """
        if self.init_from is None:
            return
        folder = Path(self.init_from).expanduser()
        family = runs.load_config(folder).model._target_.rpartition(".")[2]
        if family != "WordVectors":
            raise UserError(
                f"model.init_from={folder} must be a run of model=word_vectors, not of a {family}"
            )
        path, checkpoint = runs.last_checkpoint(folder), runs.load_last(folder)
        source, target = checkpoint["state_dict"].get("center.weight"), self.vectors.weight
        if not isinstance(source, Tensor) or "words" not in checkpoint.get("Reviews", {}):
            raise UserError(f"model.init_from={folder}: {path} holds no word vectors")
        words = datamodule.words
        expect_same_words(
            checkpoint["Reviews"]["words"],
            words,
            f"the vocabulary of model.init_from={folder} differs from that of the data",
        )
        if source.shape != target.shape:
            raise UserError(
                f"model.embedding_dim={target.shape[1]} does not fit model.init_from={folder}, "
                f"whose vectors have {source.shape[1]}"
            )
        with torch.no_grad():
            target[1:] = source[1:]  # row 0 stands for no word
        log.info("loaded vectors of %d words from %s", len(words), folder)

    def example_inputs(self) -> dict[str, tuple[nn.Module, Any]]:
        """Return the vectors with two sentences of one word, and the net with their means."""
        words = torch.ones(2, 1, dtype=torch.int64)
        return {"vectors": (self.vectors, words), "net": (self.net, self.vectors(words))}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer([p for p in self.parameters() if p.requires_grad])

    def forward(self, tokens: Tensor) -> Tensor:
        """Map sentences (B, L) of word numbers to logits (B, 2): negative, positive.

        Number 0 is no word.
        """
        return self.net(self.vectors(tokens)).float()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        tokens, labels = batch
        return {"loss": F.cross_entropy(self(tokens), labels)}

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        tokens, labels = batch
        logits = self(tokens)
        self.confusion.update(logits, labels)
        self.log_means({"test/loss": F.cross_entropy(logits, labels)}, len(labels))

    def on_test_epoch_end(self) -> None:
        self.log_dict(accuracy(self.summed(self.confusion.counts), "test/acc"))
        self.confusion.reset()
