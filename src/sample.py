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
    """Draw the picture that `cfg` asks for; return its path, cfg.out."""
    folder, out = Path(cfg.run).expanduser(), Path(cfg.out).expanduser()
    if out.suffix.lower() not in PICTURES:
        raise UserError(f"out={out}: a picture's name must end in one of {', '.join(PICTURES)}")
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
                f"out={out}: a {type(model).__name__} has no animation; give a name with .png"
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
        a, b = data.eval_images(part, evenly_spaced(len(part), cfg.n))
        rows = model.compare(a, b, noise)
        images, columns = rows.flatten(0, 1), rows.shape[1]
        if len(rows) < cfg.n:
            rows_found = "1 row" if len(rows) == 1 else f"{len(rows)} rows"
            print(f"n={cfg.n}: the data has only {rows_found}")
    elif cfg.interpolate is not None and isinstance(model, CanInterpolate):
        images = model.interpolate(cfg.n, cfg.interpolate, noise)
    else:
        action = "sample" if cfg.interpolate is None else "interpolate"
        raise UserError(f"{folder}: a {type(model).__name__} cannot {action}")
    with writing(f"out={out}"):
        grids.save_png(grids.grid(images, columns, scale=cfg.scale), out)
    print(f"{out}: {len(images)} images of {images.shape[-1]} x {images.shape[-2]}")
    return out


if __name__ == "__main__":
    sys.exit(cli.command("sample", sample, __doc__ or ""))
