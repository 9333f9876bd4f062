"""Augment a data set into a new folder that trains as data=folder, or preview each augmentation.

python -m src.augment data=folder data.root=IN augment=strong factor=3 seed=0 out=OUT
python -m src.augment data=mnist augment=warp factor=2 out=OUT        any data set of src.train
python -m src.augment data=folder data.root=IN augment=model augment.run=RUN out=OUT
                      by the model of a finished run: cyclegan (augment.to=a: from B to A),
                      style_transfer or cdcgan
python -m src.augment preview=photo.jpg out=sheet.png                 every augmentation and border

OUT/train holds each training image and factor - 1 augmented copies, each at its original size
(augment.size for images that a model translates, the size of the run for those of a cdcgan).
OUT/val and OUT/test hold the other images unchanged. OUT/manifest.csv lists the source of each new
image, its seed, and the parameters of each transform. The same seed gives the same bytes.
"""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from src.config import cli
from src.config.compose import groups
from src.config.inputs import expect_data, expect_path
from src.config.targets import marked
from src.core.chosen_checkpoint import path_of
from src.core.counts import count
from src.core.errors import UserError, writing
from src.core.types import INPUT, PICTURES

if TYPE_CHECKING:
    from src.data.folder_writer import Maker
    from src.data.image_data import ImageData


def augment(cfg: DictConfig) -> Path:
    """Write the folder or the preview that `cfg` asks for; return cfg.out."""
    out = Path(cfg.out).expanduser()
    if cfg.preview is not None:
        expect_path("preview", cfg.preview)
        return preview(Path(cfg.preview).expanduser(), out, cfg.seed, cfg.data.background)
    _expect_new_folder(out, cfg.data)
    if changed := [name for name in ("permute", "binarize") if cfg.data[name]]:
        raise UserError(
            f"src.augment writes ordinary images: data.{changed[0]}=true is only for training; "
            f"set data.{changed[0]}=false"
        )

    expect_data(cfg.data)
    for run in _runs(cfg):
        path_of(Path(run).expanduser(), cfg.augment.which)

    from src.data.folder_writer import FolderWriter
    from src.engine import build
    from src.engine.runtime import log_to_terminal

    log_to_terminal()
    data = build.datamodule(cfg)
    make = _maker(data, cfg)
    if not data.labeled:
        raise UserError(
            f"data={cfg.data.name} has no labels; src.augment needs them to name the class folders"
        )
    # a model uses all cores for one image, and much memory for its feature maps
    workers = 1 if "run" in cfg.augment else None
    size = cfg.augment.get("size")
    writer = FolderWriter(data, make, cfg.factor, cfg.seed, size=size, workers=workers)
    with writing(f"out={out}"):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
            made = writer.write(Path(temporary) / "complete")
            (Path(temporary) / "complete").replace(out)
    print(
        f"{out}: {count(len(data.train), 'training image')}, {count(made, 'augmented copy')}, "
        f"{count(len(data.val), 'validation image')}, {count(len(data.test), 'test image')}"
    )
    return out


def _expect_new_folder(out: Path, data: DictConfig) -> None:
    """Raise UserError unless `out` is new, or empty, and not among the images to read."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"out={out} exists and is not empty; choose a new folder")
    reads_all = "root" in marked(data._target_, INPUT)  # others read only files of certain names
    if reads_all and Path(data.root).expanduser().resolve() in out.resolve().parents:
        raise UserError(
            f"out={out} lies in data.root={data.root}, which would include the new images; "
            "choose a folder elsewhere"
        )


def _runs(cfg: DictConfig) -> list[str]:
    """Return the runs that augment=model uses."""
    runs = cfg.augment.get("run", [])
    return [runs] if isinstance(runs, str) else list(runs)


def _maker(data: "ImageData", cfg: DictConfig) -> "Maker":
    """Return the maker that cfg.augment describes."""
    from src.engine.makers import by_models, by_transforms

    transforms: Any = data.augment
    if transforms is not None and transforms.mixing:
        raise UserError(
            f"augment={next(iter(transforms.mixing))} mixes labels, which a folder cannot hold; "
            "train with it instead"
        )
    if runs := _runs(cfg):
        return by_models(runs, cfg.augment.to, data, cfg)
    if transforms is None:
        others = [name for name in groups()["augment"] if name not in ("none", "mixup", "cutmix")]
        raise UserError(f"augment=none makes no images; choose one of {', '.join(others)}")
    return by_transforms(transforms)


def preview(image: Path, out: Path, seed: int, background: Any = "white") -> Path:
    """Draw each choice of conf/augment on one image; return `out`."""
    if out.suffix.lower() not in PICTURES:
        raise UserError(f"out={out}: a picture's name must end in one of {', '.join(PICTURES)}")

    from src.engine.preview import save_preview

    save_preview(image, out, seed, background)
    return out


if __name__ == "__main__":
    sys.exit(cli.command("augment", augment, __doc__ or ""))
