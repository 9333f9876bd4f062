"""Train a model: compose, check, build, fit, test, report.

python -m src.train                                      a DCGAN on scikit-learn's digits
python -m src.train model=dcgan data=mnist               the same on MNIST
python -m src.train model=wgan_gp data=cifar10           another loss, color
python -m src.train model=dcgan model/loss=lsgan model.optimizer.lr=2e-4
python -m src.train -m model=gan,lsgan seed=0,1,2        a sweep, one run after another
python -m src.train -m hydra/sweeper=optuna 'model.optimizer.lr=tag(log, interval(1e-5, 1e-2))'
python -m src.train resume=DIR                           continue an interrupted run
python -m src.train --summary model=vgg data=cifar10     print the layers, and train nothing
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from src.config import cli
from src.config.overrides import quoted, setting
from src.config.recipe import with_recipe
from src.core import runs
from src.core.counts import count
from src.sweep.sweeper import run_sweep


def train(cfg: DictConfig, folder: Path) -> dict[str, float]:
    """Train the model of `cfg`; return the metrics that are in metrics.json.

    Args:
        cfg: a checked config. If cfg.resume is set, training continues from the last checkpoint.
        folder: the run's folder.
    """
    start = time.perf_counter()
    import torch

    from src.callbacks.pruning import is_pruned
    from src.engine import build, resume
    from src.engine.checks import expect_test_set
    from src.engine.fit import fit, test
    from src.engine.report import describe, record_start, report
    from src.engine.runtime import open_log

    log = open_log(folder, append=cfg.resume is not None)
    checkpoint = runs.load_last(folder, repair=True) if cfg.resume else None
    done = resume.batches_done(checkpoint)

    torch.manual_seed(cfg.seed)
    datamodule = build.datamodule(cfg, checkpoint)
    if checkpoint is not None:
        resume.expect_same_files(datamodule, cfg, checkpoint, runs.last_checkpoint(folder))
    if cfg.test:
        expect_test_set(datamodule)
    model = build.model(cfg, datamodule)
    if checkpoint is None:
        model.load_pretrained(datamodule)
    else:
        resume.expect_fit(model, cfg, checkpoint, runs.last_checkpoint(folder))
        runs.move_damaged_metrics(folder)
    trainer = build.trainer(cfg, folder, checkpoint=checkpoint)
    if cfg.test:  # again: now the number of processes is known
        expect_test_set(datamodule, trainer.world_size)
    del checkpoint  # free its memory: the trainer has it now

    log.info(describe(model, datamodule, trainer))
    record_start(folder, trainer, cfg, done)
    if cfg.resume:
        log.info("resuming %s after %s", folder, count(done, "batch"))
    metrics = fit(trainer, model, datamodule, resume=cfg.resume is not None)
    if cfg.test and not is_pruned(trainer):
        metrics |= test(trainer, model, datamodule)
    return report(trainer, model, cfg, folder, metrics, done, time.perf_counter() - start)


def run(overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """Train as `python -m src.train OVERRIDES` does, from Python; return the metrics.

    Args:
        overrides: such as ["model=dcgan", "data=mnist"].
        folder: the run's folder; it must not hold another run.

    Raises:
        UserError: a setting is wrong, as on the command line.
    """
    given = [*map(quoted, with_recipe(list(overrides))), setting("hydra.run.dir", folder)]
    cli.start("train", train, given, cli.RunFolder())
    return runs.read_metrics(folder)


def summarize(cfg: DictConfig) -> None:
    """Print the layers of the model of `cfg`; nothing is trained or written."""
    from src.engine import build
    from src.engine.summary import summary_lines

    data = build.datamodule(cfg)
    print("\n".join(summary_lines(build.model(cfg, data), data)))


if __name__ == "__main__":
    sys.exit(cli.launch("train", train, run_sweep, __doc__ or "", summarize))
