"""Draw samples from a finished run.

python -m src.sample run=DIR n=64 seed=0 out=samples.png       a grid of n images
python -m src.sample run=DIR n=8 interpolate=8 out=lines.png   n interpolations in 8 images each
python -m src.sample run=DIR n=16 out=canvas.gif               DRAW: n canvases, step by step
python -m src.sample run=DIR n=8 out=rows.png                  CycleGAN: n rows of A, G(A), F(G(A)),
                                                               B, F(B), G(F(B)) of test images
python -m src.sample run=DIR data.root=DATA                    CycleGAN: if the data has moved
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from src.config import cli
from src.core.chosen_checkpoint import path_of
from src.core.counts import count
from src.core.errors import UserError, writing
from src.core.types import PICTURES

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule
    from torch import Generator, Tensor


def sample(cfg: DictConfig) -> Path:
    """Draw the picture that `cfg` asks for; return its path, cfg.out."""
    folder, out = Path(cfg.run).expanduser(), Path(cfg.out).expanduser()
    if out.suffix.lower() not in PICTURES:
        raise UserError(f"out={out}: a picture's name must end in one of {', '.join(PICTURES)}")
    path_of(folder, cfg.which)

    from src.callbacks.protocols import CanCompare, CanPaint, CanSample
    from src.core.randomness import generator
    from src.engine.load import load_run, move_data
    from src.viz import grids
    from src.viz.canvases import captioned_frames

    moved = (lambda run_cfg: move_data(run_cfg, cfg.data)) if cfg.data else None
    run_cfg, model, _ = load_run(folder, moved, cfg.which)
    if cfg.data and (isinstance(model, CanSample) or not isinstance(model, CanCompare)):
        first = next(iter(cfg.data))
        raise UserError(f"data.{first} has no effect: a {type(model).__name__} reads no data")
    noise = generator(cfg.seed, "sample")
    if out.suffix.lower() == ".gif":
        if cfg.interpolate is not None or not isinstance(model, CanPaint):
            raise UserError(
                f"out={out}: a {type(model).__name__} has no animation; give a name with .png"
            )
        frames = captioned_frames(model.canvases(cfg.n, noise), "samples", cfg.scale)
        with writing(f"out={out}"):
            grids.save_gif(frames, out)
        print(f"{out}: {count(cfg.n, 'canvas')} in {count(len(frames) - 1, 'step')}")
        return out
    images, columns = _images(model, run_cfg, cfg, noise)
    with writing(f"out={out}"):
        grids.save_picture(grids.grid(images, columns, scale=cfg.scale), out)
    width, height = images.shape[-1], images.shape[-2]
    print(f"{out}: {count(len(images), 'image')} of {width} x {height}")
    return out


def _images(
    model: "LightningModule", run_cfg: DictConfig, cfg: DictConfig, noise: "Generator"
) -> "tuple[Tensor, int | None]":
    """Return the images to draw, (N, C, H, W) in [0, 1], and their columns; None: a square.

    Raises UserError if the model cannot do what `cfg` asks for.
    """
    from src.callbacks.protocols import CanCompare, CanInterpolate, CanSample, CanSampleClasses
    from src.data.images import evenly_spaced
    from src.engine import build

    if cfg.interpolate is not None and isinstance(model, CanInterpolate):
        return model.interpolate(cfg.n, cfg.interpolate, noise), cfg.interpolate
    if cfg.interpolate is None and isinstance(model, CanSample):
        columns = model.num_classes if isinstance(model, CanSampleClasses) else None
        return model.sample(cfg.n, noise), columns
    if cfg.interpolate is None and isinstance(model, CanCompare):
        data = build.datamodule(run_cfg)
        part = data.test if len(data.test) else data.train
        a, b = data.eval_images(part, evenly_spaced(len(part), cfg.n))
        rows = model.compare(a, b, noise)
        if len(rows) < cfg.n:
            print(f"n={cfg.n}: the data has only {count(len(rows), 'row')}")
        return rows.flatten(0, 1), rows.shape[1]
    action = "sample" if cfg.interpolate is None else "interpolate"
    raise UserError(f"{cfg.run}: a {type(model).__name__} cannot {action}")


if __name__ == "__main__":
    sys.exit(cli.command("sample", sample, __doc__ or ""))
