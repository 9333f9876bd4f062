"""Measure what torch.compile costs, what it gains, and from how many batches on it pays.

  python -m src.bench.compiling model=lenet data=cifar10
  python -m src.bench.compiling experiment=draw_mnist bench.batches=20 bench.rounds=3

Each round trains with model.compile=false, then with model.compile=true and empty caches, as on the
first run on a machine. The settings are those of src.bench. The cost is the time by which the first
batches take longer than without compiling.
"""

import math
import os
import statistics
import sys
import tempfile
from typing import NamedTuple

from omegaconf import DictConfig

from src.bench.__main__ import our_clock, training_only
from src.bench.clock import Clock
from src.config import cli
from src.core.errors import UserError


class Comparison(NamedTuple):
    """The times of one round.

    Attributes:
        eager, compiled: without and with torch.compile.
    """

    eager: Clock
    compiled: Clock

    @property
    def cost(self) -> float:
        """Seconds that compiling takes."""
        return self.compiled.lost - self.eager.lost

    @property
    def speedup(self) -> float:
        """Speed of compiled training, divided by that of eager training."""
        return self.compiled.rate / self.eager.rate

    def break_even(self) -> int | None:
        """Return the number of batches from which a run is shorter; None if it never is."""
        gain = self.eager.seconds - self.compiled.seconds
        return math.ceil(self.cost / gain) if gain > 0 else None


def bench_compiling(cfg: DictConfig) -> list[Comparison]:
    """Measure `bench.rounds` rounds; print each and the medians, and return them."""
    from src.engine import build

    if "compile" not in cfg.model:
        raise UserError(f"{cfg.model._target_} has no setting model.compile")
    data = build.datamodule(cfg)
    cfg = training_only(cfg, data)
    print(f"{data.name}, batch {data.batch_size}, {cfg.trainer.precision}", flush=True)
    rounds = []
    for number in range(1, cfg.bench.rounds + 1):
        rounds.append(Comparison(_clock(cfg, data, False), _clock(cfg, data, True)))
        eager, compiled = rounds[-1]
        print(
            f"round {number}: eager {eager.rate:,.0f} images/s, compiled {compiled.rate:,.0f} "
            f"images/s, {rounds[-1].cost:.1f} s to compile, {_pays(rounds[-1])}",
            flush=True,
        )
    print(
        f"medians: speedup {statistics.median(c.speedup for c in rounds):.2f}, "
        f"{statistics.median(c.cost for c in rounds):.1f} s to compile"
    )
    return rounds


def _clock(cfg: DictConfig, data: object, is_compiled: bool) -> Clock:
    """Train with or without torch.compile, whose caches are empty, and return the times."""
    import torch

    cfg = cfg.copy()
    cfg.model.compile = is_compiled
    torch.compiler.reset()
    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        try:
            return our_clock(cfg, data, cfg.trainer.precision)
        finally:
            os.environ.pop("TORCHINDUCTOR_CACHE_DIR")
            if before is not None:
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = before


def _pays(measured: Comparison) -> str:
    batches = measured.break_even()
    return "never breaks even" if batches is None else f"breaks even after {batches:,} batches"


if __name__ == "__main__":
    sys.exit(cli.command("bench", bench_compiling, __doc__ or ""))
