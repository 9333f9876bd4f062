"""Our training loop beside a plain PyTorch one: same nets, same losses, same data, same machine, in turn.

  python -m src.bench model=dcgan data=mnist          images per second of both, and their ratio round by round
  python -m src.bench model=gan data=digits rounds=3

The plain loop is what a tutorial writes: a DataLoader that fetches one image at a time, fakes made anew for each player, the
discriminator's gradients computed in the generator's step too, Adam as it comes, float32. Ours runs with TensorBoard,
metrics.csv, the progress bar and the pictures of callbacks=default.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from src import cli
from src.errors import UserError


def bench(cfg: DictConfig) -> list[float]:
    """Time both loops for cfg.rounds rounds; prints each, returns the ratios ours / plain."""
    import torch

    from src import build

    if cfg.model._target_ not in PLAIN:
        raise UserError(f"no plain loop is written for {cfg.model._target_}; there is one for {', '.join(PLAIN)}")
    data = build.data(cfg)
    per_epoch = len(data.train_dataloader())
    cfg.trainer.max_epochs = -(-(cfg.warmup + cfg.batches) // per_epoch)
    cfg.trainer.limit_val_batches = 0
    cfg.callbacks.pop("quality", None)
    print(f"{data.name}, batch {data.batch_size}, {torch.get_num_threads()} threads, {cfg.batches} batches a round")
    ratios = []
    for number in range(1, cfg.rounds + 1):
        plain = PLAIN[cfg.model._target_](cfg, data)
        with tempfile.TemporaryDirectory() as folder:
            ours = our_rate(cfg, data, Path(folder))
        ratios.append(ours / plain)
        print(f"round {number}: plain {plain:8,.0f} images/s   ours {ours:8,.0f} images/s   ratio {ratios[-1]:.2f}", flush=True)
    low, high = min(ratios), max(ratios)
    print(f"ratio: median {statistics.median(ratios):.2f}, from {low:.2f} to {high:.2f}")
    return ratios


class Clock:
    """Images per second of the batches after the warm-up: call it behind each batch."""

    def __init__(self, warmup: int, batches: int) -> None:
        self.warmup, self.last = warmup, warmup + batches
        self.seen, self.images, self.start, self.rate = 0, 0, 0.0, 0.0

    def __call__(self, images: int) -> bool:
        """Count a batch; is the time over?"""
        self.seen += 1
        self.images += images if self.seen > self.warmup else 0
        if self.seen == self.warmup:
            self.start = time.perf_counter()
        if self.seen == self.last:
            self.rate = self.images / (time.perf_counter() - self.start)
        return self.seen >= self.last


def our_rate(cfg: DictConfig, data: Any, folder: Path) -> float:
    """Images per second of src.train's own loop."""
    import pytorch_lightning as pl
    import torch

    from src import build

    class Timer(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if clock(len(batch[0])):
                trainer.should_stop = True

    clock = Clock(cfg.warmup, cfg.batches)
    torch.manual_seed(cfg.seed)
    trainer = build.trainer(cfg, folder, 0)
    trainer.callbacks.append(Timer())  # type: ignore[attr-defined]
    trainer.fit(build.model(cfg), datamodule=data)
    return clock.rate


def plain_gan_rate(cfg: DictConfig, data: Any) -> float:
    """Images per second of the plain GAN loop."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    from src import build

    class OneByOne(Dataset):
        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.5, 0.5)])

        def __len__(self) -> int:
            return len(data.train)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            pixels = data.train.images[index].permute(1, 2, 0).squeeze(2).numpy()
            return self.transform(Image.fromarray(pixels)), int(data.train.labels[index])

    torch.manual_seed(cfg.seed)
    model: Any = build.model(cfg).to(memory_format=torch.contiguous_format)
    g, d, loss = model.generator, model.discriminator, model.loss
    settings = {key: cfg.model.optimizer[key] for key in ("lr", "betas") if key in cfg.model.optimizer}
    optimizer = getattr(torch.optim, cfg.model.optimizer._target_.rpartition(".")[2])
    d_optimizer, g_optimizer = optimizer(d.parameters(), **settings), optimizer(g.parameters(), **settings)
    clock = Clock(cfg.warmup, cfg.batches)
    while True:
        for step, (real, _) in enumerate(DataLoader(OneByOne(), data.batch_size, shuffle=True)):
            fake = g(model.latents(len(real))).detach()
            d_loss = loss.discriminator(d(real), d(fake))
            if loss.gradient_penalty:
                d_loss = d_loss + loss.gradient_penalty * plain_penalty(d, real, fake)
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()
            if loss.weight_clip:
                for parameter in d.parameters():
                    parameter.data.clamp_(-loss.weight_clip, loss.weight_clip)
            if step % model.n_critic == 0:
                g_loss = loss.generator(d(g(model.latents(len(real)))))
                g_optimizer.zero_grad()
                g_loss.backward()
                g_optimizer.step()
            if clock(len(real)):
                return clock.rate


def plain_penalty(critic: Any, real: Any, fake: Any) -> Any:
    """The gradient penalty as tutorials write it."""
    import torch

    mix = torch.rand(len(real), 1, 1, 1)
    x_hat = (mix * real + (1 - mix) * fake).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(x_hat).sum(), x_hat, create_graph=True)
    return ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()


PLAIN: dict[str, Callable[[DictConfig, Any], float]] = {"src.models.gan.GAN": plain_gan_rate}


if __name__ == "__main__":
    sys.exit(cli.command("bench", bench, __doc__ or ""))
