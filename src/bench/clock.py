"""The clock of all timed loops."""

import time


class Clock:
    """Measure images per second after the warm-up: call it after each batch.

    Attributes:
        rate: images per second.
        seconds: of one batch.
        lost: seconds by which the warm-up took longer than as many later batches.
    """

    def __init__(self, warmup: int, batches: int) -> None:
        self.warmup, self.last = warmup, warmup + batches
        self.seen, self.images, self.begin, self.start = 0, 0, now(), 0.0
        self.rate = self.seconds = self.lost = 0.0

    def __call__(self, images: int) -> bool:
        """Count a batch of `images`; return whether the measurement is complete."""
        self.seen += 1
        self.images += images if self.seen > self.warmup else 0
        if self.seen == self.warmup:
            self.start = now()
        if self.seen == self.last:
            seconds = now() - self.start
            self.rate, self.seconds = self.images / seconds, seconds / (self.last - self.warmup)
            self.lost = self.start - self.begin - self.warmup * self.seconds
        return self.seen >= self.last


def now() -> float:
    """Return the time in seconds, once a GPU has finished its work."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
