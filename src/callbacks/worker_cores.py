"""Leave cores to the workers that decode images; notice other programs that use the cores."""

import copy
import logging
import os
import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.utils.flop_counter import FlopCounterMode

from src.core.counts import count
from src.models.base import Family

log = logging.getLogger(__name__)

SMALL = 2000  # multiply-adds per pixel, below which decoding an image takes as long as training


class WorkerCores(pl.Callback):
    """On a CPU, train a small network with one fewer thread per worker.

    The threads of an operation wait for the slowest of them. If a worker runs on the core of one,
    all wait: on two cores, LeNet then trains at two thirds of the speed that it has with one
    thread. A larger network needs all cores. OMP_NUM_THREADS, if set, is respected. The choice
    never depends on timing, because the number of threads affects rounding.

    For the same reason, other programs that keep cores busy change nothing, but a line in the log
    says how to train faster beside them: next to two endless loops on two cores, `cnn_mnist` had
    2,900 images per second with two threads and 6,000 with one.
    """

    def __init__(self) -> None:
        self.before = 0  # threads

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        workers = getattr(trainer.train_dataloader, "num_workers", 0)
        self.before = torch.get_num_threads()
        if trainer.strategy.root_device.type != "cpu" or "OMP_NUM_THREADS" in os.environ:
            return
        threads, cores = max(1, self.before - workers), os.cpu_count() or 1
        others = busy_threads() - trainer.world_size
        if self.before > 1 and others > 0 and others + self.before > cores:
            log.info(
                "%s of other programs %s the %d cores of this machine: training may be faster "
                "with OMP_NUM_THREADS=%d",
                count(others, "thread"),
                "shares" if others == 1 else "share",
                cores,
                max(1, cores - others),
            )
        if (
            threads < self.before
            and isinstance(pl_module, Family)
            and multiply_adds_per_pixel(pl_module) < SMALL
        ):
            torch.set_num_threads(threads)
            log.info(
                "training with %s to leave cores to the %s that %s images; to use %s, set "
                "OMP_NUM_THREADS=%d",
                count(threads, "thread"),
                count(workers, "worker"),
                "decodes" if workers == 1 else "decode",
                count(self.before, "thread"),
                self.before,
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.set_num_threads(self.before)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if self.before:
            torch.set_num_threads(self.before)


def busy_threads(loadavg: Path = Path("/proc/loadavg")) -> int:
    """Return how many threads of all programs want to run now; 0 if unknown.

    It is the least of a few samples, because many programs wake up only for a moment.
    """
    found = []
    for _ in range(3):
        try:
            running = loadavg.read_text().split()[3]  # running/all
            found.append(int(running.split("/")[0]))
        except (OSError, ValueError, IndexError):  # not Linux
            return 0
        time.sleep(0.01)
    return min(found)


def multiply_adds_per_pixel(model: Family) -> float:
    """Return the multiply-adds of one pass through the networks, per pixel of an image."""
    total = 0.0
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for net, inputs in model.example_inputs().values():
            given = inputs if isinstance(inputs, tuple) else (inputs,)
            # a copy, because the pass would change the statistics of a BatchNorm
            net = copy.deepcopy(net).requires_grad_(False).eval()
            with FlopCounterMode(display=False) as counter:
                net(*given)
            total += counter.get_total_flops() / 2 / len(given[0])
    height, width = model.datamodule.size
    return total / (height * width)
