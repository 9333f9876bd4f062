"""Translate images with a finished run.

python -m src.translate run=DIR images=PHOTOS out=OUT        CycleGAN from A to B, or a style
python -m src.translate run=DIR images=PHOTOS out=OUT to=a   CycleGAN from B to A
python -m src.translate run=DIR images='PHOTOS/*.jpg' out=OUT size=256

`images` is a file, a folder with all images below it, a glob, or a list of these, as for
`src.predict`. Each image becomes a PNG with the same relative path in OUT, at the same size unless
`size` is set. Images that cannot be read or are too small for the networks are listed on stderr,
and the exit code is then 1.
"""

import os
import sys
from pathlib import Path

from omegaconf import DictConfig
from tqdm import tqdm

from src.config import cli
from src.core.chosen_checkpoint import path_of
from src.core.counts import count
from src.core.errors import Incomplete, UserError, writing
from src.core.inputs import find_images
from src.core.types import height_width


def translate(cfg: DictConfig) -> list[Path]:
    """Translate the images that cfg.images names into cfg.out; return the new files.

    Raises Incomplete if some images cannot be read.
    """
    folder, out = Path(cfg.run).expanduser(), Path(cfg.out).expanduser()
    path_of(folder, cfg.which)
    paths = find_images([cfg.images] if isinstance(cfg.images, str) else list(cfg.images))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"out={out} exists and is not empty; choose a new folder")

    from src.callbacks.protocols import CanTranslate
    from src.core.pixels import to_float
    from src.data.decode import Fit, decode, parse_color
    from src.data.folder_writer import free_place
    from src.engine.load import load_run
    from src.viz.grids import grid, save_png

    run_cfg, model, _ = load_run(folder, which=cfg.which)
    if not isinstance(model, CanTranslate):
        family = type(model).__name__
        raise UserError(
            f"{folder} holds a {family}, which cannot translate images; "
            "give a run of cyclegan or style_transfer"
        )
    size = None if cfg.size is None else height_width(cfg.size)
    background = parse_color(run_cfg.data.get("background", "white"))
    fit = Fit(size, run_cfg.data.channels, background)
    top = Path(os.path.commonpath([path.parent.resolve() for path in paths]))
    made: dict[Path, None] = {}  # in order
    bad: list[str] = []
    for path in tqdm(paths, unit="image", disable=None, leave=False):
        try:
            image = to_float(decode(path, fit)).unsqueeze(0)
            image = model.translate(image, cfg.to)  # (1, C, H, W)
        except UserError as error:
            bad.append(str(error))
            continue
        except ValueError as error:
            bad.append(f"{path}: {error}")
            continue
        source = out / (path.parent.resolve() / path.name).relative_to(top)
        place = source.with_suffix(".png")
        if place in made:  # images of the same name but different extensions
            place = free_place(source, ".png", made)
        with writing(f"out={out}"):
            save_png(grid(image, gap=0), place)
        made[place] = None
    if not made:
        raise UserError(f"none of {count(len(paths), 'file')} can be translated: {bad[0]}")
    print(f"{out}: {count(len(made), 'image')}")
    if bad:
        raise Incomplete("\n".join(bad))
    return list(made)


if __name__ == "__main__":
    sys.exit(cli.command("translate", translate, __doc__ or ""))
