"""Train a model: compose, check, build, fit, test, report.

python -m src.train                                      a DCGAN on scikit-learn's digits, no download
python -m src.train model=dcgan data=mnist               the same on MNIST
python -m src.train model=wgan_gp data=cifar10           another loss, colour
python -m src.train model=dcgan model/loss=lsgan model.optimizer.lr=2e-4
python -m src.train -m model=gan,lsgan seed=0,1,2        a sweep, one run after another
python -m src.train resume=DIR                           go on with a run that was cut
"""

import sys
import time
from pathlib import Path

from omegaconf import DictConfig

from src import cli, run


def train(cfg: DictConfig, folder: Path) -> dict[str, float]:
    """Train what `cfg` says into `folder`; go on from its last checkpoint where cfg.resume is set. Returns metrics.json."""
    start = time.perf_counter()
    import torch

    from src import build
    from src.callbacks.common import batches_seen
    from src.callbacks.report import report
    from src.layers import counts
    from src.transfer import begin

    log = build.open_log(folder, append=cfg.resume is not None)
    checkpoint = run.last_checkpoint(folder) if cfg.resume else None
    done = build.batches_done(checkpoint)

    torch.manual_seed(cfg.seed)
    data = build.data(cfg, checkpoint)
    model = build.model(cfg)
    if getattr(model, "init_from", None) and not checkpoint:
        log.info(begin(model, cfg.model, data))
    trainer = build.trainer(cfg, folder, done)
    parameters, in_all = counts(model)
    shown = f"{parameters:,}" if parameters == in_all else f"{parameters:,} of {in_all:,}"
    log.info(
        "%s on %s (%d to train, %d to validate, %d to test), %s parameters, %s, %s",
        type(model).__name__, data.name, len(data.train), len(data.val), len(data.test),
        shown, trainer.strategy.root_device, trainer.precision,
    )  # fmt: skip
    if checkpoint:
        log.info("resuming %s after %d batches", folder, done)

    trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if cfg.test:
        trainer.test(model, datamodule=data, verbose=False)
        metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    metrics["parameters"] = parameters
    if batches_seen(trainer) > done:
        metrics["seconds"] = time.perf_counter() - start
    else:  # the figures of what was trained stay those of the training
        log.info(
            "nothing was left to train: trainer.max_epochs=N, more than %d, goes on",
            cfg.trainer.max_epochs,
        )
    return report(trainer, cfg, folder, metrics)


if __name__ == "__main__":
    sys.exit(cli.launch("train", train, __doc__ or ""))
