"""Two loops without anything around the training step: the leanest one, and an empty Trainer.

Both read uint8 images from memory by one index operation a batch, and use the network, precision,
memory format and fused optimizer of the run. A GAN trains both networks on the same fakes. Nothing
is logged, checked, drawn or saved. The lean loop is plain PyTorch; in the empty Trainer, Lightning
runs the same step, without callbacks or loggers. So their difference is Lightning's own cost.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader

from src.bench.baselines import device_of
from src.bench.clock import Clock
from src.core.errors import UserError
from src.core.memory import keep_memory
from src.core.pixels import to_float
from src.data.order import EpochSampler
from src.engine import build, runtime
from src.losses import classification_loss, gradient_penalty
from src.optim.clipping import clip_each, clip_weights

# A step gets the model, a batch, and the batch's number, counted from 1. It computes its losses one
# after another: it yields the number of an optimizer and the loss that this one minimizes, and goes
# on after the optimizer has stepped.
Step = Callable[[Any, Tensor, Tensor, int], Iterator[tuple[int, Tensor]]]


def classifier_step(
    model: Any, x: Tensor, labels: Tensor, number: int
) -> Iterator[tuple[int, Tensor]]:
    """Yield the loss, then update the moving average of the weights."""
    logits = model.net(model.scaled(x))
    yield 0, classification_loss(logits, labels, model.aux_weight, model.label_smoothing)
    if model.average is not None:
        model.average.update(model.net)


def gan_step(model: Any, x: Tensor, labels: Tensor, number: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the discriminator's loss and, every n_critic batches, the generator's on its fakes."""
    real, loss = x * 2 - 1, model.loss
    discriminator = model.discriminator_given(labels)
    trains_generator = number % model.n_critic == 0
    with torch.set_grad_enabled(trains_generator):
        fake = model.generator(model.latents(len(x), labels=labels))
    d_loss = loss.discriminator(discriminator(real).float(), discriminator(fake.detach()).float())
    if loss.gradient_penalty:
        with torch.autocast(x.device.type, enabled=False):
            mix = torch.rand(len(x), 1, 1, 1, device=x.device)
            penalty = gradient_penalty(discriminator, real, fake.float(), mix)
        d_loss = d_loss + loss.gradient_penalty * penalty
    yield 0, d_loss
    if loss.weight_clip is not None:
        clip_weights(model.discriminator, loss.weight_clip)
    if not trains_generator:
        return
    model.discriminator.requires_grad_(False)
    real_logits = discriminator(real).float() if loss.generator_needs_real_logits else None
    yield 1, loss.generator(real_logits, discriminator(fake).float())
    model.discriminator.requires_grad_(True)
    if model.ema is not None:
        model.ema.update(model.generator)


def draw_step(model: Any, x: Tensor, labels: Tensor, number: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the mean bound."""
    yield 0, model(x)["bound_nats"].mean()


def cyclegan_step(model: Any, a: Tensor, b: Tensor, number: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the translators' loss, then the discriminators' on pooled fakes."""
    a, b = a * 2 - 1, b * 2 - 1
    model._set_discriminators_trainable(False)
    fake_a, fake_b, losses = model._translator_losses(a, b)
    yield (
        1,
        losses["fool"]
        + model.lambda_cycle * (losses["cycle"] + model.lambda_identity * losses["identity"]),
    )
    model._set_discriminators_trainable(True)
    old_a, old_b = model.pool_a(fake_a.detach()), model.pool_b(fake_b.detach())
    loss_a = model._discriminator_loss(model.d_a, a, old_a)
    yield 0, loss_a + model._discriminator_loss(model.d_b, b, old_b)


STEPS: dict[str, Step] = {
    "src.models.gan.GAN": gan_step,
    "src.models.cyclegan.CycleGAN": cyclegan_step,
    "src.models.draw.DRAW": draw_step,
    "src.models.classifier.Classifier": classifier_step,
}


class Batches:
    """Read batches by one index operation each, for as many epochs as are asked for.

    Args:
        data: the data module. Its training images must be in memory.
        device: where to prepare the batches.
    """

    def __init__(self, data: Any, device: torch.device) -> None:
        if getattr(data.train, "nbytes", None) is None:
            raise UserError("the lean loop needs the images in memory: data.in_memory=true")
        self.data, self.device = data, device
        self.part = data.train.to(device) if hasattr(data.train, "to") else data.train
        columns = getattr(data.train, "columns", 1)
        self.sampler = EpochSampler(
            len(data.train), data.batch_size, data.seed, shuffle=True, columns=columns
        )

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for number, indices in enumerate(self.sampler):
            x, labels = (part.to(self.device) for part in self.part[indices])
            x = to_float(x)
            if labels.ndim > 1:  # images of another domain
                labels = to_float(labels)
            if self.data.transforms_training:
                x, labels = self.data.transform_training(x, labels, indices, (0, number, 0))
            yield x, labels


def lean_rate(cfg: DictConfig, data: Any, precision: str) -> float:
    """Return images per second of the leanest loop in `precision`."""
    keep_memory()
    torch.manual_seed(cfg.seed)
    device = device_of(cfg)
    model: Any = build.model(cfg, data).to(device).train()
    prepare(model, data, cfg)
    step = STEPS[cfg.model._target_]
    optimizers = model.configure_optimizers()
    optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
    clip_norm = getattr(model, "clip_norm", None)
    clock = Clock(cfg.bench.warmup, cfg.bench.batches)
    batches = Batches(data, device)
    while True:
        for x, labels in batches:
            with autocast(device, precision):
                for number, loss in step(model, x, labels, clock.seen + 1):
                    optimizers[number].zero_grad()
                    loss.backward()
                    if clip_norm is not None:
                        clip_each(model.parameters(), clip_norm)
                    optimizers[number].step()
            if clock(len(x)):
                return clock.rate


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return the context of a step in `precision`, bf16-mixed or 32-true.

    Raises:
        UserError: it is another one.
    """
    if precision == "32-true":
        return nullcontext()
    if precision != "bf16-mixed":
        raise UserError(f"no lean loop for trainer.precision={precision}: bf16-mixed or 32-true")
    # as in the run: converted weights are not kept, since they would be stale after a step
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def prepare(model: Any, data: Any, cfg: DictConfig) -> None:
    """Set mean and std of a classifier that takes them from the data; compile as the run does."""
    if model.should_compile(cfg.trainer.max_epochs * len(data.train_dataloader())):
        model.compile_networks()
    for name in model.normalize.unset_moments if hasattr(model, "normalize") else []:
        moments = dict(zip(("mean", "std"), data.moments(), strict=True))
        getattr(model, name).copy_(moments[name].view(-1, 1, 1))


class Bare(pl.LightningModule):
    """A model as a LightningModule that only steps.

    Args:
        model: holds networks, losses and optimizers.
        step: its training step.
        clock: counts the batches, and ends the run.
    """

    def __init__(self, model: Any, step: Step, clock: Clock) -> None:
        super().__init__()
        self.model, self.step, self.clock = model, step, clock
        optimizers = model.configure_optimizers()
        self.made = optimizers if isinstance(optimizers, list) else [optimizers]
        self.automatic_optimization = len(self.made) == 1 and not hasattr(model, "clip_norm")
        self.losses: Iterator[tuple[int, Tensor]] = iter(())

    def configure_optimizers(self) -> Any:
        return self.made

    def transfer_batch_to_device(self, batch: Any, *args: Any) -> Any:
        return batch  # `Batches` has done it

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor | None:
        self.losses = self.step(self.model, *batch, self.clock.seen + 1)
        if self.automatic_optimization:
            return next(self.losses)[1]
        wrapped: Any = self.optimizers()
        for number, loss in self.losses:
            optimizer = wrapped[number] if isinstance(wrapped, list) else wrapped
            optimizer.zero_grad()
            self.manual_backward(loss)
            if (clip_norm := getattr(self.model, "clip_norm", None)) is not None:
                clip_each(self.model.parameters(), clip_norm)
            optimizer.step()
        return None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        next(self.losses, None)  # run the rest of the step: the moving average
        if self.clock(len(batch[0])):
            self.trainer.should_stop = True


def empty_trainer_rate(cfg: DictConfig, data: Any, precision: str) -> float:
    """Return images per second of the same step in a Trainer without callbacks and loggers."""
    runtime.quiet()
    keep_memory()
    runtime.no_driver_checks()
    torch.manual_seed(cfg.seed)
    device = device_of(cfg)
    model = build.model(cfg, data).to(device)
    prepare(model, data, cfg)
    clock = Clock(cfg.bench.warmup, cfg.bench.batches)
    trainer = pl.Trainer(
        accelerator=cfg.trainer.accelerator,
        devices=1,
        precision=cast(Any, precision),
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(_Iterable(Batches(data, device)), batch_size=None)
    trainer.fit(Bare(model, STEPS[cfg.model._target_], clock), loader)
    return clock.rate


class _Iterable(torch.utils.data.IterableDataset[Any]):
    """`Batches` for a DataLoader, which hands them on."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)
