"""Train a model: compose, check, build, fit, test, report.

python -m src.train                                      a DCGAN on scikit-learn's digits, no download
python -m src.train model=dcgan data=mnist               the same on MNIST
python -m src.train model=wgan_gp data=cifar10           another loss, color
python -m src.train model=dcgan model/loss=lsgan model.optimizer.lr=2e-4
python -m src.train -m model=gan,lsgan seed=0,1,2        a sweep, one run after another
python -m src.train resume=DIR                           continue an interrupted run
"""

import sys
import time
from pathlib import Path

from omegaconf import DictConfig

from src.config import cli
from src.core import runs


def train(cfg: DictConfig, folder: Path) -> dict[str, float]:
    """Train what `cfg` says into `folder`; go on from its last checkpoint where cfg.resume is set. Returns metrics.json."""
    start = time.perf_counter()
    import torch

    from src.callbacks.early_stopping import way_to_go_on
    from src.callbacks.report import report
    from src.core.progress import progress
    from src.engine import build, resume
    from src.engine.checks import expect_test_set
    from src.engine.fit import fit, test
    from src.engine.runtime import open_log
    from src.nets.inspect import count_parameters

    log = open_log(folder, append=cfg.resume is not None)
    checkpoint = runs.load_last(folder, repair=True) if cfg.resume else None
    done = resume.batches_done(checkpoint)

    torch.manual_seed(cfg.seed)
    datamodule = build.datamodule(cfg, checkpoint)
    if cfg.test:
        expect_test_set(datamodule)
    model = build.model(cfg, datamodule)
    if checkpoint is None:
        model.load_pretrained(datamodule)
    else:
        resume.expect_fit(model, cfg, checkpoint, runs.last_checkpoint(folder))
        runs.move_broken_metrics(folder)
    trainer = build.trainer(cfg, folder, checkpoint=checkpoint)
    del checkpoint  # free its memory: the trainer has it now
    parameters, in_all = count_parameters(model)
    shown = f"{parameters:,}" if parameters == in_all else f"{parameters:,} of {in_all:,}"
    log.info(
        "%s on %s (%d to train, %d to validate, %d to test), %s parameters, %s, %s",
        type(model).__name__,
        datamodule.name,
        len(datamodule.train),
        len(datamodule.val),
        len(datamodule.test),
        shown,
        trainer.strategy.root_device,
        trainer.precision,
    )
    if cfg.resume:
        log.info("resuming %s after %d batches", folder, done)

    metrics = fit(trainer, model, datamodule, resume=cfg.resume is not None)
    if cfg.test:
        metrics |= test(trainer, model, datamodule)
    metrics["parameters"] = parameters
    trained = progress(trainer).batch > done
    if not trained:
        log.info(way_to_go_on(trainer))
    return report(trainer, cfg, folder, metrics, trained, time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(cli.launch("train", train, __doc__ or ""))
