"""Find a learning rate: raise it from batch to batch, and look at the loss (Smith 2015).

python -m src.lr_finder model=cnn data=mnist               the settings of the run to come
python -m src.lr_finder model=vae data=digits batches=400
python -m src.lr_finder model=cnn min_lr=1e-5 max_lr=10 picture=cnn.png

Prints the rate at which the loss falls fastest, as a setting for src.train, and draws the curve.
Nothing that is trained is saved. Models with several optimizers have no such rate.
"""

import sys
import tempfile
from pathlib import Path

from omegaconf import DictConfig

from src.config import cli
from src.config.inputs import expect_data, expect_pretrained
from src.config.signatures import class_attribute
from src.core.errors import TrainingFailed, UserError, writing


def find_lr(cfg: DictConfig) -> float | None:
    """Run the test; return the suggested learning rate, or None if the loss does not fall."""
    family = cfg.model._target_.rpartition(".")[2]
    names = class_attribute(cfg.model._target_, "optimizer_names") or ("lr",)
    if len(names) > 1:
        raise UserError(
            f"a {family} has {len(names)} optimizers ({', '.join(names)}) that work against each "
            "other, so no loss shows a good learning rate: src.lr_finder takes models with one"
        )
    if cfg.min_lr >= cfg.max_lr:
        raise UserError(f"min_lr={cfg.min_lr:g} must be below max_lr={cfg.max_lr:g}")
    expect_data(cfg.data)
    expect_pretrained(cfg)

    import torch

    from src.callbacks.lr_range import LRRange
    from src.engine import build
    from src.engine.fit import trainer_errors
    from src.metrics.lr_range import smoothed, steepest
    from src.optim.schedules import constant
    from src.viz.lr_curve import save_lr_curve

    cfg = cfg.copy()
    torch.manual_seed(cfg.seed)
    data = build.datamodule(cfg)
    cfg.trainer.max_epochs = -(-cfg.batches // max(1, len(data.train_dataloader())))
    cfg.trainer.update({"limit_train_batches": None, "limit_val_batches": 0, "max_time": None})
    cfg.trainer.update({"devices": 1, "strategy": "auto"})
    cfg.callbacks = cfg.logger = cfg.profiler = None
    model = build.model(cfg, data)
    model.load_pretrained(data)
    model.schedule = constant  # LRRange sets the rates; `plateau` would ask for a validation
    test = LRRange(cfg.min_lr, cfg.max_lr, cfg.batches)
    print(
        f"{family} on {data.name}: up to {cfg.batches} batches, "
        f"learning rates from {cfg.min_lr:g} to {cfg.max_lr:g}"
    )
    with tempfile.TemporaryDirectory() as folder, trainer_errors():
        try:
            build.trainer(cfg, Path(folder), test, keep=False).fit(model, datamodule=data)
        except TrainingFailed:  # the loss is not finite any more
            test.losses += [float("nan")] * (len(test.rates) - len(test.losses))
            test.exploded = True
    losses = test.losses[:-1] if test.exploded else test.losses
    rates = test.rates[: len(losses)]
    smooth = smoothed(losses)
    rate = steepest(rates, smooth)
    if test.exploded:
        print(f"the loss exploded at {test.rates[-1]:.2g}, after {len(test.rates)} batches")
    if rate is None:
        print("the loss does not fall: try other settings, a smaller min_lr or more batches")
    else:
        lowest = rates[smooth.index(min(smooth))]
        print(f"the loss falls fastest at {rate:.2g} and is lowest at {lowest:.2g}")
        print(f"suggestion: model.optimizer.lr={rate:.2g}")
    if losses:
        picture = Path(cfg.picture).expanduser()
        with writing(f"picture={cfg.picture}"):
            save_lr_curve(rates, losses, smooth, rate, picture)
        print(f"curve: {picture}")
    return rate


if __name__ == "__main__":
    sys.exit(cli.command("lr_finder", find_lr, __doc__ or ""))
