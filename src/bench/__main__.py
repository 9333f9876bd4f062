"""Time our training loop beside three others on the same network, data and machine.

  python -m src.bench model=dcgan data=mnist        images per second of all loops, and ratios
  python -m src.bench model=gan data=digits bench.rounds=3
  python -m src.bench model=fc data=mnist bench.profile=true       what our loop spends time on

The loops of each round, one after another:
  plain   the code of a tutorial: float32, an optimizer without fused kernels, and a DataLoader that
          reads one image at a time (with data=folder from its file, as torchvision's ImageFolder
          does). A GAN draws new fakes for each of its two networks and also computes the
          discriminator's gradients in the generator's step. DRAW applies one LSTMCell, Linear or
          filter after another. It is timed for a quarter of the batches.
  lean    the least that trains the same network in the same precision: see src/bench/lean.py
  empty   the same step in Lightning's Trainer, without callbacks and loggers
  ours    as python -m src.train, with TensorBoard, metrics.csv, progress and the pictures of
          callbacks=default; in trainer.precision
  float32 ours in 32-true, unless that is trainer.precision

The seconds from the command to its first batch are those of python -m src.train with the same
settings. Peak memory is that of this run.
"""

import functools
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from src.bench.baselines import PLAIN, PLAIN_AUGMENTATIONS
from src.bench.clock import Clock
from src.bench.startup import Start, measure_starts
from src.bench.tables import chosen
from src.config import cli
from src.core.errors import UserError

COMPARED = ("plain", "lean", "empty")
LOOPS = (*COMPARED, "ours", "float32")


@dataclass
class Speeds:
    """The results of a benchmark.

    Attributes:
        rates: images per second of each round, by loop: plain, lean, empty, ours and, if the run
            has another precision, float32, which is ours in it.
        starts: start-ups of src.train.
    """

    rates: dict[str, list[float]] = field(default_factory=dict)
    starts: list[Start] = field(default_factory=list)

    def compared(self) -> list[str]:
        """Return the loops that were timed beside ours."""
        return [loop for loop in COMPARED if {loop, "ours"} <= set(self.rates)]

    def ratios(self, loop: str, of: str = "ours") -> list[float]:
        """Return the rates of the loop `of`, divided by those of `loop`, by round."""
        pairs = zip(self.rates[of], self.rates[loop], strict=True)
        return [ours / theirs for ours, theirs in pairs]


def bench(cfg: DictConfig, overrides: Sequence[str] | None = None) -> Speeds:
    """Time all loops for bench.rounds rounds, print each round and the medians; return the rates.

    Args:
        overrides: the command line, by which start-ups are measured; None: they are not.
    """
    import torch

    from src.bench.costs import print_costs
    from src.bench.lean import STEPS, empty_trainer_rate, lean_rate
    from src.engine import build

    names = chosen("bench.loops", cfg.bench.loops, LOOPS)
    for loop, models in (("plain", list(PLAIN)), ("lean", list(STEPS)), ("empty", list(STEPS))):
        if loop in names and cfg.model._target_ not in models:
            raise UserError(
                f"there is no {loop} loop for {cfg.model._target_}; there is one for "
                f"{', '.join(models)} (bench.loops=[ours] times ours alone)"
            )
    for name, off in (("accumulate_grad_batches", 1), ("gradient_clip_val", None)):
        if cfg.trainer.get(name, off) != off and set(COMPARED) & set(names):
            raise UserError(
                f"trainer.{name}={cfg.trainer[name]} is not in the other loops; bench.loops=[ours] "
                "times ours alone"
            )
    data = build.datamodule(cfg)
    cfg, settings = training_only(cfg, data), cfg.bench
    own = cfg.trainer.precision
    print(
        f"{data.name}, batch {data.batch_size}, {torch.get_num_threads()} threads, ours in {own}, "
        f"{settings.batches} batches per round",
        flush=True,
    )
    transforms = {name for name, node in cfg.augment.items() if isinstance(node, DictConfig)}
    left_out = transforms - PLAIN_AUGMENTATIONS.get(cfg.model._target_, set())
    if "plain" in names and left_out:
        print(f"the plain loop does not augment with {', '.join(sorted(left_out))}")
    loops = {
        "plain": lambda: PLAIN[cfg.model._target_](_quarter(cfg), data),
        "lean": lambda: lean_rate(cfg, data, own),
        "empty": lambda: empty_trainer_rate(cfg, data, own),
        "ours": lambda: our_rate(cfg, data, own),
        "float32": lambda: our_rate(cfg, data, "32-true"),
    }
    names = [name for name in names if name != "float32" or own != "32-true"]
    speeds = Speeds({name: [] for name in names})
    for number in range(1, settings.rounds + 1 if names else 1):
        for name in names:
            speeds.rates[name].append(loops[name]())
        rates = "   ".join(f"{name} {values[-1]:,.0f}" for name, values in speeds.rates.items())
        print(f"round {number}, images/s: {rates}", flush=True)
    for loop in speeds.compared():
        _print_ratio(f"ours / {loop}", speeds.ratios(loop))
    if {"float32", "plain"} <= set(names):
        _print_ratio("float32 / plain", speeds.ratios("plain", of="float32"))
    if overrides is not None and settings.starts:
        speeds.starts = measure_starts(overrides, settings.starts)
        seconds = [start.seconds for start in speeds.starts]
        memory = max(start.peak_memory_mb for start in speeds.starts)
        print(
            f"seconds to the first batch: median {statistics.median(seconds):.2f}, "
            f"from {min(seconds):.2f} to {max(seconds):.2f}; peak memory {memory:,.0f} MB"
        )
    if settings.profile:
        print_costs(functools.partial(our_rate, cfg, data, own), settings.batches)
    return speeds


def _quarter(cfg: DictConfig) -> DictConfig:
    """Return `cfg` with a quarter of the batches, for the plain loop, which is slow."""
    cfg = cfg.copy()
    cfg.bench.batches = -(-cfg.bench.batches // 4)
    cfg.bench.warmup = -(-cfg.bench.warmup // 4)
    return cfg


def _print_ratio(name: str, values: Sequence[float]) -> None:
    print(
        f"{name}: median {statistics.median(values):.2f}, "
        f"from {min(values):.2f} to {max(values):.2f}"
    )


def training_only(cfg: DictConfig, data: Any) -> DictConfig:
    """Return `cfg` for timing: one process, enough batches, no validation or test, a precision."""
    from src.engine.runtime import fast_precision

    cfg = cfg.copy()
    per_epoch = len(data.train_dataloader())
    cfg.trainer.max_epochs = -(-(cfg.bench.warmup + cfg.bench.batches) // per_epoch)
    cfg.trainer.update({"limit_train_batches": None, "limit_val_batches": 0, "max_time": None})
    cfg.trainer.update({"devices": 1, "num_nodes": 1, "strategy": "auto"})
    cfg.checkpoint.update({"monitor": None, "mode": None})
    if cfg.model.get("freeze_early"):
        cfg.model.freeze_early = None  # time batches that train everything
    for name in ("quality", "early_stopping"):
        if cfg.callbacks:
            cfg.callbacks.pop(name, None)
    if cfg.trainer.precision == "auto":
        cfg.trainer.precision = fast_precision(cfg.trainer.accelerator)
    return cfg


def our_rate(cfg: DictConfig, data: Any, precision: str, profiler: Any = None) -> float:
    """Return images per second of the loop of src.train; for the arguments see `our_clock`."""
    return our_clock(cfg, data, precision, profiler).rate


def our_clock(cfg: DictConfig, data: Any, precision: str, profiler: Any = None) -> Clock:
    """Train for the batches of cfg.bench with the loop of src.train; return their times.

    Args:
        profiler: a Lightning profiler that measures after the warm-up; None: none.
    """
    import pytorch_lightning as pl
    import torch

    from src.engine import build
    from src.optim.schedules import Plateau, constant

    class Timer(pl.Callback):
        def on_train_batch_end(
            self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            if clock(len(batch[0])):
                trainer.should_stop = True
            if profiler is not None and clock.seen in (clock.warmup, clock.last):
                profiler.is_on = clock.seen == clock.warmup

    clock = Clock(cfg.bench.warmup, cfg.bench.batches)
    cfg = cfg.copy()
    cfg.trainer.precision = precision
    torch.manual_seed(cfg.seed)
    with tempfile.TemporaryDirectory() as folder:
        trainer: Any = build.trainer(cfg, Path(folder), Timer())
        if profiler is not None:
            trainer.profiler = profiler
        model = build.model(cfg, data)
        if isinstance(getattr(model, "schedule", None), Plateau):
            model.schedule = constant  # there is no validation
        trainer.fit(model, datamodule=data)
    return clock


if __name__ == "__main__":
    sys.exit(cli.command("bench", lambda cfg: bench(cfg, sys.argv[1:]), __doc__ or ""))
