"""Canvases of a model that draws step by step: reconstructions and samples."""

from typing import Any

import pytorch_lightning as pl

from src.callbacks.images import (
    delete_images_after,
    log_image,
    progress_caption,
    save_image,
    summary_writer,
)
from src.callbacks.loggers import image_summary
from src.callbacks.protocols import CanPaint
from src.callbacks.trainer_state import is_last_epoch, is_power_of_two, probe_images
from src.core.progress import progress
from src.core.randomness import generator
from src.core.types import PositiveInt, Seed
from src.viz import charts, grids
from src.viz.canvases import captioned_frames, captioned_strip


class CanvasSequences(pl.Callback):
    """Show the canvas after each step, with its windows, for validation images and for fixed noise.

    Strips go to TensorBoard and to images/canvas_{samples,reconstructions}_BATCHES.png. GIFs are
    large, so they are made only when the number of batches has doubled; they go to TensorBoard,
    and the newest also to images/canvas_*.gif. After validation, a bar chart shows the KL of each
    step.

    Args:
        every_n_batches: interval of the strips; also drawn after the first batch and at the end.
        n: canvases in a GIF; a strip has at most eight.
        seed: seed of the noise. The callback has its own generator, so training does not change.
    """

    def __init__(self, every_n_batches: PositiveInt, n: PositiveInt, seed: Seed) -> None:
        self.every_n_batches, self.n, self.seed = every_n_batches, n, seed

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        delete_images_after(trainer, "canvas_*")

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        step = progress(trainer).batch
        intervals, rest = divmod(step, self.every_n_batches)
        if step == 1 or rest == 0:
            self._show(trainer, pl_module, with_gif=step == 1 or is_power_of_two(intervals))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if is_last_epoch(trainer):
            self._show(trainer, pl_module, with_gif=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        kl = {
            int(name.rpartition("_")[2]): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val_steps/kl_nats")
        }
        if kl and trainer.is_global_zero:
            log_image(
                trainer,
                "kl_steps",
                charts.draw_bars(
                    [kl[step] for step in sorted(kl)],
                    f"validation: KL divergence of each step\n{progress_caption(trainer)}",
                    x_label="step",
                    y_label="nats",
                ),
            )

    def _show(self, trainer: pl.Trainer, model: pl.LightningModule, with_gif: bool) -> None:
        if not trainer.is_global_zero or not isinstance(model, CanPaint):
            return
        images, _ = probe_images(trainer, self.n)
        step, writer = progress(trainer).batch, summary_writer(trainer)
        for name, shown in (("samples", None), ("reconstructions", images)):
            n = self.n if shown is None else len(shown)
            canvases = model.canvases(n, generator(self.seed, "canvases", name), shown)
            title = f"{name}, step by step\n{progress_caption(trainer)}"
            strip = captioned_strip(canvases, title)
            save_image(trainer, f"canvas_{name}_{step:08d}.png", strip)
            log_image(trainer, f"canvas_strips/{name}", strip)
            if with_gif:
                frames = captioned_frames(canvases, f"{name} {progress_caption(trainer)}")
                gif = grids.gif(frames)
                save_image(trainer, f"canvas_{name}.gif", gif)
                if writer:
                    writer._get_file_writer().add_summary(
                        image_summary(f"canvas/{name}", gif, frames[0]), step
                    )
