"""Draw samples from a finished run.

python -m src.sample run=DIR n=64 seed=0 out=samples.png       a grid of n images
python -m src.sample run=DIR n=8 interpolate=8 out=lines.png   n interpolations in 8 images each
python -m src.sample run=DIR n=16 out=canvas.gif               DRAW: n canvases, step by step
python -m src.sample run=DIR n=8 out=rows.png                  CycleGAN: n rows of A, G(A), F(G(A)),
                                                               B, F(B), G(F(B)) of test images
"""

import sys
from pathlib import Path

from omegaconf import DictConfig

from src.config import cli
from src.core import runs
from src.core.errors import UserError, writing
from src.core.types import PICTURES


def sample(cfg: DictConfig) -> Path:
    """Draw what `cfg` says into cfg.out; returns its path."""
    folder, out = Path(cfg.run).expanduser(), Path(cfg.out).expanduser()
    if out.suffix.lower() not in PICTURES:
        raise UserError(f"out={out}: a picture's name ends in one of {', '.join(PICTURES)}")
    if cfg.n is None:
        raise UserError("n=null: it takes a whole number from 1")
    runs.last_checkpoint(folder)

    from src.callbacks.protocols import (
        CanCompare,
        CanInterpolate,
        CanPaint,
        CanSample,
        CanSampleClasses,
    )
    from src.core.randomness import generator
    from src.data.images import evenly_spaced
    from src.engine import build
    from src.engine.load import load_run
    from src.viz import grids

    run_cfg, model, _ = load_run(folder)
    noise = generator(cfg.seed, "sample")
    if out.suffix.lower() == ".gif":
        if cfg.interpolate is not None or not isinstance(model, CanPaint):
            raise UserError(
                f"out={out}: {folder} holds a {type(model).__name__}, which has nothing that moves; a .png shows it"
            )
        frames = grids.canvas_frames(model.canvases(cfg.n, noise), cfg.scale)
        with writing(f"out={out}"):
            grids.save_gif(frames, out)
        print(f"{out}: {cfg.n} canvases in {len(frames) - 1} steps")
        return out
    columns = cfg.interpolate
    if cfg.interpolate is None and isinstance(model, CanSample):
        images = model.sample(cfg.n, noise)
        columns = model.num_classes if isinstance(model, CanSampleClasses) else None
    elif cfg.interpolate is None and isinstance(model, CanCompare):
        data = build.datamodule(run_cfg)
        part = data.test if len(data.test) else data.train
        rows = model.compared(*data.eval_images(part, evenly_spaced(len(part), cfg.n)))
        images, columns = rows.flatten(0, 1), rows.shape[1]
        if len(rows) < cfg.n:
            print(
                f"n={cfg.n}: {'there is one row' if len(rows) == 1 else f'there are {len(rows)} rows'} to show"
            )
    elif cfg.interpolate is not None and isinstance(model, CanInterpolate):
        images = model.interpolate(cfg.n, cfg.interpolate, noise)
    else:
        raise UserError(
            f"{folder}: a {type(model).__name__} cannot {'sample' if cfg.interpolate is None else 'interpolate'}"
        )
    with writing(f"out={out}"):
        grids.save_png(grids.grid(images, columns, scale=cfg.scale), out)
    print(f"{out}: {len(images)} images of {images.shape[-1]} x {images.shape[-2]}")
    return out


if __name__ == "__main__":
    sys.exit(cli.command("sample", sample, __doc__ or ""))
