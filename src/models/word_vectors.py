"""Word vectors from plain sentences: skip-gram with negative sampling (Mikolov 2013b)."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from src.core.types import Counted, Positive, PositiveInt
from src.losses import skip_gram
from src.models.base import Family


class WordVectors(Family):
    """A vector for each word, by which the words around it are told from words drawn at random.

    Args:
        vocab_size: number of words; they are numbered from 1.
        embedding_dim: of a vector.
        window: words each side of a word that are its context, at most; stop words are gone before.
        negatives: k, noise words for each pair, drawn from the words' frequencies to the power of 3/4 (section 2.2).
        optimizer: parameters -> optimiser.
        schedule: progress in [0, 1) -> factor on the learning rate (see `src.optim.schedules`).
        subsample: t; each time that a word w, a share f(w) of all words, comes in training, it is discarded with probability
            1 - sqrt(t / f(w)) before pairs are made (section 2.3); None: none is. The paper's is about 1e-5, for 1e9 words.
        dynamic_window: draw each centre's window uniformly from 1 to `window`, each time, as word2vec's own code does, so that
            near words count more; False: always `window`.

    The test loss is of all words and whole windows.
    """

    takes = "sentences"
    sentences = "unlabelled"

    def __init__(
        self,
        vocab_size: Counted,
        embedding_dim: PositiveInt,
        window: PositiveInt,
        negatives: PositiveInt,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[float], float],
        subsample: Positive | None = 1e-5,
        dynamic_window: bool = True,
    ) -> None:
        super().__init__()
        self.subsample, self.dynamic_window = subsample, dynamic_window
        self.window, self.negatives, self.optimizer, self.schedule = (
            window,
            negatives,
            optimizer,
            schedule,
        )
        self.centre, self.context = (
            nn.Embedding(vocab_size + 1, embedding_dim),
            nn.Embedding(vocab_size + 1, embedding_dim),
        )  # row 0: no word
        nn.init.uniform_(
            self.centre.weight, -0.5 / embedding_dim, 0.5 / embedding_dim
        )  # as word2vec's own code begins
        nn.init.zeros_(self.context.weight)
        self.noise: Tensor  # (vocab_size + 1,) how likely each is as a noise word
        self.register_buffer("noise", torch.ones(vocab_size + 1))
        self.kept: Tensor  # (vocab_size + 1,) how likely each is to stay in its sentence
        self.register_buffer("kept", torch.ones(vocab_size + 1), persistent=False)

    def setup(self, stage: str) -> None:
        if stage == "fit":
            counts = cast(Any, self.trainer).datamodule.counts
            self.noise.copy_(noise_shares(counts))
            if self.subsample is not None:
                self.kept.copy_(kept_shares(counts, self.subsample))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer(self.parameters())

    def word_vectors(self) -> Tensor:
        """(vocab_size, embedding_dim), the first that of word 1; no gradient."""
        return self.centre.weight.detach()[1:]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        tokens, windows = batch[0], torch.full_like(batch[0], self.window)
        if self.subsample is not None:
            tokens = subsampled(tokens, self.kept, torch.rand(tokens.shape, device=self.device))
        if self.dynamic_window:
            windows = torch.randint_like(windows, 1, self.window + 1)
        return {"loss": self._loss(tokens, windows)}

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log(
            "test/loss",
            self._loss(batch[0], torch.full_like(batch[0], self.window)),
            batch_size=len(batch[0]),
            on_epoch=True,
            sync_dist=True,
        )

    def _loss(self, tokens: Tensor, windows: Tensor) -> Tensor:
        centres, contexts = pairs(tokens, windows)
        if not len(centres):  # all but single words were discarded
            return self.centre.weight.sum() * 0
        noise = torch.multinomial(
            self.noise.expand(len(centres), -1), self.negatives, replacement=True
        )
        return skip_gram(self.centre(centres), self.context(contexts), self.context(noise))


def pairs(tokens: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
    """All (centre, context) pairs of words in a sentence that are at most the centre's window apart.

    Args:
        tokens: (B, L) int64, 0 behind a sentence's end.
        windows: (B, L) int64, that of the word at each place as a centre.

    Returns:
        two of (P,).
    """
    centres, contexts = [tokens.new_empty(0)], [tokens.new_empty(0)]
    for distance in range(1, min(int(windows.max()), tokens.shape[1] - 1) + 1):
        left, right = tokens[:, :-distance], tokens[:, distance:]
        for centre, context, window in (
            (left, right, windows[:, :-distance]),
            (right, left, windows[:, distance:]),
        ):
            near = (right > 0) & (window >= distance)  # words stand before the zeros
            centres.append(centre[near])
            contexts.append(context[near])
    return torch.cat(centres), torch.cat(contexts)


def subsampled(tokens: Tensor, kept: Tensor, draws: Tensor) -> Tensor:
    """Return sentences (B, L) without the words whose draw (B, L) in [0, 1) is not below their share in `kept` (vocab_size
    + 1,).

    The words that are left move together, as in word2vec's own code: a window reaches over those that are gone.
    """
    left = torch.where(draws < kept[tokens], tokens, 0)
    return left.gather(1, (left == 0).int().argsort(dim=1, stable=True))


def kept_shares(counts: Tensor, subsample: float) -> Tensor:
    """How often each of n words occurs (n,) -> how likely it is to stay (n + 1,), sqrt(t / f) and at most 1 (section 2.3)."""
    shares = (subsample * counts.sum() / counts.double()).sqrt().clamp(max=1)
    return torch.cat([shares.new_ones(1), shares]).float()


def noise_shares(counts: Tensor) -> Tensor:
    """How often each of n words occurs (n,) -> shares (n + 1,) of U(w)^(3/4) / Z, 0 for the number 0 (section 2.2)."""
    shares = counts.double().pow(0.75)
    return torch.cat([shares.new_zeros(1), shares / shares.sum()]).float()
