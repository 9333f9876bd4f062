"""Word vectors by skip-gram with negative sampling (Mikolov 2013b)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from src.core.types import Counted, Positive, PositiveInt
from src.losses import skip_gram
from src.models.base import Family


class WordVectors(Family):
    """Learn a vector for each word that separates the words around it from random words.

    The test loss is computed over all words and full windows.

    Args:
        vocab_size: number of words; they are numbered from 1.
        embedding_dim: length of a vector.
        window: largest distance between a word and its context, without stop words.
        negatives: k, noise words per pair, drawn with probability proportional to frequency^(3/4)
            (section 2.2).
        optimizer: parameters -> optimizer.
        schedule: progress in [0, 1) -> factor on the learning rate (see `src.optim.schedules`).
        subsample: t. In training, each occurrence of a word with frequency f is discarded with
            probability 1 - sqrt(t / f) before pairs are made (section 2.3); None: never. The
            paper's value for 1e9 words is about 1e-5.
        dynamic_window: draw the window of each center from 1 to `window`, as word2vec's code does,
            so that near words count more. False: always use `window`.
    """

    takes = "sentences"
    sentences = "unlabeled"

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
        self.window, self.negatives = window, negatives
        self.optimizer, self.schedule = optimizer, schedule
        self.center = nn.Embedding(vocab_size + 1, embedding_dim)  # row 0 stands for no word
        self.context = nn.Embedding(vocab_size + 1, embedding_dim)
        # initialized as in word2vec's code
        nn.init.uniform_(self.center.weight, -0.5 / embedding_dim, 0.5 / embedding_dim)
        nn.init.zeros_(self.context.weight)
        self.noise: Tensor  # (vocab_size + 1,), the noise distribution
        self.register_buffer("noise", torch.ones(vocab_size + 1))
        self.kept: Tensor  # (vocab_size + 1,), probability of keeping a word
        self.register_buffer("kept", torch.ones(vocab_size + 1), persistent=False)

    def setup(self, stage: str) -> None:
        if stage == "fit":
            counts = self.datamodule.counts
            self.noise.copy_(noise_shares(counts))
            if self.subsample is not None:
                self.kept.copy_(kept_shares(counts, self.subsample))

    def example_inputs(self) -> dict[str, tuple[nn.Module, Tensor]]:
        """Return both tables of vectors, each with two words."""
        words = torch.ones(2, dtype=torch.int64)
        return {"center": (self.center, words), "context": (self.context, words)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer(self.parameters())

    def word_vectors(self) -> Tensor:
        """Return the vectors (vocab_size, embedding_dim) without gradient.

        Row k is the vector of word k + 1.
        """
        return self.center.weight.detach()[1:]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        tokens, windows = batch[0], torch.full_like(batch[0], self.window)
        if self.subsample is not None:
            tokens = subsampled(tokens, self.kept, torch.rand(tokens.shape, device=self.device))
        if self.dynamic_window:
            windows = torch.randint_like(windows, 1, self.window + 1)
        return {"loss": self._loss(tokens, windows)}

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        loss = self._loss(batch[0], torch.full_like(batch[0], self.window))
        self.log_means({"test/loss": loss}, len(batch[0]))

    def _loss(self, tokens: Tensor, windows: Tensor) -> Tensor:
        centers, contexts = pairs(tokens, windows)
        if not len(centers):  # at most one word per sentence is left
            return self.center.weight.sum() * 0
        noise = torch.multinomial(
            self.noise.expand(len(centers), -1), self.negatives, replacement=True
        )
        return skip_gram(self.center(centers), self.context(contexts), self.context(noise))


def pairs(tokens: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
    """Return all (center, context) pairs of words within the center's window.

    Args:
        tokens: (B, L) int64, 0 after the end of a sentence.
        windows: (B, L) int64, the window of each center.

    Returns:
        Two tensors (P,): centers and contexts.
    """
    centers, contexts = [tokens.new_empty(0)], [tokens.new_empty(0)]
    for distance in range(1, min(int(windows.max()), tokens.shape[1] - 1) + 1):
        left, right = tokens[:, :-distance], tokens[:, distance:]
        for center, context, window in (
            (left, right, windows[:, :-distance]),
            (right, left, windows[:, distance:]),
        ):
            near = (right > 0) & (window >= distance)  # zeros are at the end
            centers.append(center[near])
            contexts.append(context[near])
    return torch.cat(centers), torch.cat(contexts)


def subsampled(tokens: Tensor, kept: Tensor, draws: Tensor) -> Tensor:
    """Discard frequent words from sentences at random.

    The remaining words move together, as in word2vec's code, so a window reaches over the gaps.

    Args:
        tokens: (B, L) int64.
        kept: (vocab_size + 1,), the probability of keeping each word.
        draws: (B, L), uniform in [0, 1).
    """
    left = torch.where(draws < kept[tokens], tokens, 0)
    return left.gather(1, (left == 0).int().argsort(dim=1, stable=True))


def kept_shares(counts: Tensor, subsample: float) -> Tensor:
    """Return the probability of keeping each word, sqrt(t / f), at most 1 (section 2.3).

    Args:
        counts: (n,), occurrences of each word.
        subsample: t.

    Returns:
        (n + 1,); entry 0 stands for no word.
    """
    shares = (subsample * counts.sum() / counts.double()).sqrt().clamp(max=1)
    return torch.cat([shares.new_ones(1), shares]).float()


def noise_shares(counts: Tensor) -> Tensor:
    """Return the noise distribution U(w)^(3/4) / Z (section 2.2).

    Args:
        counts: (n,), occurrences of each word.

    Returns:
        (n + 1,); entry 0 stands for no word, and is 0.
    """
    shares = counts.double().pow(0.75)
    return torch.cat([shares.new_zeros(1), shares / shares.sum()]).float()
