"""Time our training loop and a plain PyTorch loop on the same networks, losses, data and machine.

  python -m src.bench model=dcgan data=mnist        images per second of both, and their ratio
  python -m src.bench model=gan data=digits rounds=3

The plain loop is the code of a tutorial: float32, the run's optimizer without fused kernels, and a
DataLoader that reads one image at a time (with data=folder from its file, as torchvision's
ImageFolder does). A GAN draws new fakes for each of its two networks and also computes the
discriminator's gradients in the generator's step. DRAW applies one LSTMCell, Linear or filter after
another.

Our loop runs with TensorBoard, metrics.csv, the progress bar and the pictures of callbacks=default.
Each round times the plain loop once and ours twice: in trainer.precision and in float32. The ratio
in float32 compares the loops alone.
"""

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from src.bench.baselines import PLAIN, Clock
from src.config import cli
from src.core.errors import UserError


def bench(cfg: DictConfig) -> dict[str, list[float]]:
    """Time all loops for cfg.rounds rounds and print each; return the ratios by precision."""
    import torch

    from src.engine import build
    from src.engine.runtime import fast_precision

    if cfg.model._target_ not in PLAIN:
        raise UserError(
            f"there is no plain loop for {cfg.model._target_}; there is one for {', '.join(PLAIN)}"
        )
    cfg = cfg.copy()  # the benchmark changes settings
    data = build.datamodule(cfg)
    per_epoch = len(data.train_dataloader())
    cfg.trainer.max_epochs = -(-(cfg.warmup + cfg.batches) // per_epoch)
    cfg.trainer.limit_val_batches = 0
    cfg.callbacks.pop("quality", None)
    own = cfg.trainer.precision
    own = fast_precision(cfg.trainer.accelerator) if own == "auto" else own
    print(
        f"{data.name}, batch {data.batch_size}, {torch.get_num_threads()} threads, "
        f"{cfg.batches} batches per round"
    )
    ratios: dict[str, list[float]] = {precision: [] for precision in (own, "32-true")}
    for number in range(1, cfg.rounds + 1):
        plain = PLAIN[cfg.model._target_](cfg, data)
        line = f"round {number}: plain (32-true) {plain:,.0f} images/s"
        for precision in ratios:
            cfg.trainer.precision = precision
            with tempfile.TemporaryDirectory() as folder:
                ours = our_rate(cfg, data, Path(folder))
            ratios[precision].append(ours / plain)
            line += f"   ours ({precision}) {ours:,.0f} images/s, ratio {ours / plain:.2f}"
        print(line, flush=True)
    for precision, values in ratios.items():
        print(
            f"ratio ours ({precision}) / plain (32-true): median {statistics.median(values):.2f}, "
            f"from {min(values):.2f} to {max(values):.2f}"
        )
    return ratios


def our_rate(cfg: DictConfig, data: Any, folder: Path) -> float:
    """Return images per second of the loop of src.train."""
    import pytorch_lightning as pl
    import torch

    from src.engine import build

    class Timer(pl.Callback):
        def on_train_batch_end(
            self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            if clock(len(batch[0])):
                trainer.should_stop = True

    clock = Clock(cfg.warmup, cfg.batches)
    torch.manual_seed(cfg.seed)
    trainer = build.trainer(cfg, folder, Timer())
    trainer.fit(build.model(cfg, data), datamodule=data)
    return clock.rate


if __name__ == "__main__":
    sys.exit(cli.command("bench", bench, __doc__ or ""))
