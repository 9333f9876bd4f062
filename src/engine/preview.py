"""A picture of what each augmentation does to an image."""

from pathlib import Path
from typing import Any

import torch

from src.config.checks import check
from src.config.compose import compose, groups
from src.core.counts import count
from src.core.errors import writing
from src.core.pixels import to_float
from src.core.randomness import CounterRNG
from src.data.decode import Fit, decode, parse_color
from src.data.transforms.warp import BORDERS
from src.engine import build
from src.viz.captions import draw_captioned
from src.viz.grids import save_picture

SIDE = 96  # pixels of an image in the picture
DRAWS = 32  # random versions of the image; those that changed most are shown


def save_preview(path: Path, out: Path, seed: int, background: Any) -> None:
    """Draw each choice of conf/augment on one image, the geometric ones with every border."""
    image = to_float(decode(path, Fit((SIDE, SIDE), 3, parse_color(background))))
    images, captions = [image] * len(BORDERS), ["unchanged", *[""] * (len(BORDERS) - 1)]
    rng, batch = CounterRNG(torch.arange(DRAWS), seed, "preview"), image.expand(DRAWS, -1, -1, -1)
    is_odd = torch.arange(DRAWS).view(-1, 1, 1, 1) % 2 == 1
    for choice in groups()["augment"]:
        if choice == "model":
            continue  # it needs a run
        cfg = compose("augment", [f"augment={choice}", "out=none", "data.root=none"])
        check(cfg, "augment")
        if choice == "none" or (augment := build.augmentation(cfg)) is None:
            continue
        # every other image is upside down for mixing, so that its effect is visible
        many = torch.where(is_odd, batch.flip(2), batch) if augment.mixing else batch
        labels = torch.full((DRAWS,), -1)
        made, _ = augment(many, labels, rng, None)
        changes = (made - many).square().mean((1, 2, 3))
        most_changed = changes.argsort(descending=True)[: len(BORDERS)]
        for number, border in zip(most_changed, BORDERS, strict=True):
            if augment.geometric:
                augment.border, number = border, most_changed[0]
                made, _ = augment(many, labels, rng, None)
            images.append(made[number])
            captions.append(f"{choice}\n{border}" if augment.geometric else choice)
    picture = draw_captioned(torch.stack(images), captions, columns=len(BORDERS), scale=1)
    with writing(f"out={out}"):
        save_picture(picture, out)
    print(f"{out}: {count(len(images), 'image')} of {path}")
