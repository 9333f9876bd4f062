"""Word vectors from plain sentences: skip-gram with negative sampling (Mikolov 2013b)."""

from collections.abc import Callable
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from src.losses import skip_gram


class WordVectors(pl.LightningModule):
    """A vector for each word, by which the words around it are told from words drawn at random.

    Args:
        words: how many there are; they are numbered from 1.
        width: of a vector.
        window: words each side of a word that are its context; stop words are gone before.
        negatives: k, noise words for each pair, drawn from the words' frequencies to the power of 3/4 (section 2.2).
        optimizer: parameters -> optimiser.
        schedule: progress in [0, 1) -> factor on the learning rate (see `src.schedules`).
    """

    def __init__(
        self,
        words: int,
        width: int,
        window: int,
        negatives: int,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[float], float],
    ) -> None:
        super().__init__()
        self.window, self.negatives, self.optimizer, self.schedule = (
            window,
            negatives,
            optimizer,
            schedule,
        )
        self.centre, self.context = (
            nn.Embedding(words + 1, width),
            nn.Embedding(words + 1, width),
        )  # row 0: no word
        nn.init.uniform_(
            self.centre.weight, -0.5 / width, 0.5 / width
        )  # as word2vec's own code begins
        nn.init.zeros_(self.context.weight)
        self.noise: Tensor  # (words + 1,) how likely each is as a noise word
        self.register_buffer("noise", torch.ones(words + 1))

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.noise.copy_(noise_shares(cast(Any, self.trainer).datamodule.counts))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer(self.parameters())

    def word_vectors(self) -> Tensor:
        """(words, width), the first that of word 1; no gradient."""
        return self.centre.weight.detach()[1:]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"loss": self._loss(batch[0])}

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log(
            "test/loss",
            self._loss(batch[0]),
            batch_size=len(batch[0]),
            on_epoch=True,
            sync_dist=True,
        )

    def _loss(self, tokens: Tensor) -> Tensor:
        centres, contexts = pairs(tokens, self.window)
        noise = torch.multinomial(
            self.noise.expand(len(centres), -1), self.negatives, replacement=True
        )
        return skip_gram(self.centre(centres), self.context(contexts), self.context(noise))


def pairs(tokens: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """All (centre, context) pairs of words at most `window` apart in a sentence; tokens (B, L), 0 no word -> two of (P,)."""
    centres, contexts = [], []
    for distance in range(1, min(window, tokens.shape[1] - 1) + 1):
        left, right = tokens[:, :-distance], tokens[:, distance:]
        both = right > 0  # words stand before the zeros
        centres += [left[both], right[both]]
        contexts += [right[both], left[both]]
    return torch.cat(centres), torch.cat(contexts)


def noise_shares(counts: Tensor) -> Tensor:
    """How often each of n words occurs (n,) -> shares (n + 1,) of U(w)^(3/4) / Z, 0 for the number 0 (section 2.2)."""
    shares = counts.double().pow(0.75)
    return torch.cat([shares.new_zeros(1), shares / shares.sum()]).float()
