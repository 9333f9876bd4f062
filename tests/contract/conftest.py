"""The files that the contract tests read."""

import numpy as np
import pytest
from PIL import Image

from src.train import train
from tests.conftest import saved
from tests.contract.small import IMAGES, RUN, small_run


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """A folder with photos of two classes, a photograph, a style and the run of a small VGG."""
    folder, noise = tmp_path_factory.mktemp("inputs"), np.random.default_rng(0)

    def image(path, height, width):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)

    for i in range(24):
        image(folder / "photos" / ("cats", "dogs")[i % 2] / f"{i:02d}.png", 16, 16)
    image(folder / "photo.png", 30, 40)
    image(folder / "style.png", 50, 50)
    cfg = small_run(
        *RUN[:-4],
        *IMAGES,
        "callbacks=none",
        "model=vgg",
        "model.net.features=[4,M,8]",
        "data.channels=3",
        "data.size=16",
        "trainer.max_epochs=1",
        "test=false",
        f"cache={folder / 'cache'}",
    )
    train(cfg, saved(cfg, folder / "vgg"))
    return folder
