"""A photograph and a picture whose style it takes on, for style transfer."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from src.core.errors import UserError
from src.core.pixels import to_float
from src.core.types import Color, ImageSize, InputPath, PositiveInt, height_width
from src.data.base import DataModule
from src.data.decode import Fit, decode, parse_color
from src.data.images import ImageSet
from src.data.order import loader


class Repeat(Dataset[Any]):
    """One batch, repeated n times."""

    def __init__(self, batch: tuple[Tensor, Tensor], n: int) -> None:
        self.batch, self.n = batch, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.batch


class StylePair(DataModule):
    """Two images as every batch; each batch is one optimizer step on the image that is made.

    Args:
        name: name of the set in metrics.
        content, style: image files, scaled to cover `size` and cropped at the center.
        size: height and width, one number for a square.
        channels: 1 or 3.
        num_steps: batches per epoch.
        background: color behind transparent image files, see `ImageData`.
    """

    holds = "a photograph and a style"
    can_augment = False
    labeled = False
    state_keys = ()

    def __init__(
        self,
        name: str,
        content: InputPath,
        style: InputPath,
        size: ImageSize,
        channels: Literal[1, 3],
        num_steps: PositiveInt,
        background: Color = "white",
    ) -> None:
        super().__init__()
        self.name, self.channels, self.num_steps = name, channels, num_steps
        self.background = parse_color(background)
        self.size = height_width(size)
        self.paths = [Path(path).expanduser() for path in (content, style)]
        self.root = self.paths[0]
        self.augment = None
        empty = torch.empty(0, channels, *self.size, dtype=torch.uint8)
        self.val = ImageSet(empty, torch.empty(0, dtype=torch.int64))
        self.train: ImageSet
        self.test: ImageSet

    def setup(self, stage: str | None = None) -> None:
        """Read both images. Does this once, whatever the stage."""
        if not hasattr(self, "train"):
            fit = Fit(self.size, self.channels, self.background)
            both = torch.stack([decode(path, fit) for path in self.paths])
            self.train = self.test = ImageSet(both, torch.tensor([-1, -1]))

    def eval_images(self, part: ImageSet, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return content and style, whatever the arguments."""
        return self.pair()

    def pair(self) -> tuple[Tensor, Tensor]:
        """Return content and style, each (1, C, H, W) in [0, 1]."""
        content, style = to_float(self.train.images).split(1)
        return content, style

    def train_dataloader(self) -> Iterable[Any]:
        if self.trainer is not None and self.trainer.world_size > 1:
            raise UserError("style transfer optimizes one image: set trainer.devices=1")
        return loader(Repeat(self.pair(), self.num_steps), 1, 0, "train", self.trainer)

    def test_dataloader(self) -> Iterable[Any]:
        return loader(Repeat(self.pair(), 1), 1, 0, "test", self.trainer)

    def state_dict(self) -> dict[str, Any]:
        return {}
