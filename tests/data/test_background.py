"""Transparent images are blended over data.background, wherever image files are read."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from src.augment import augment, preview
from src.config.checks import check
from src.config.compose import compose
from src.core.errors import UserError
from src.data.decode import Fit, decode, parse_color
from src.predict import predict
from src.train import train
from tests.conftest import call, data_of, saved

RNG = np.random.default_rng(0)


def blended(rgb, alpha, ground):
    """Compute Porter and Duff's "over" on an opaque background, in float64."""
    a = alpha[..., None] / 255
    return a * rgb + (1 - a) * np.asarray(ground)


def seen(path, channels=3, ground=(255, 255, 255)):
    return decode(path, Fit(None, channels, ground)).permute(1, 2, 0).numpy().astype(float)


@pytest.mark.parametrize("ground", [(255, 255, 255), (0, 0, 0), (10, 200, 90)])
def test_decode_blends_alpha_over_the_background(tmp_path, ground):
    rgb = RNG.integers(0, 256, (12, 9, 3), dtype=np.uint8)
    alpha = RNG.integers(0, 256, (12, 9), dtype=np.uint8)
    Image.fromarray(np.dstack([rgb, alpha])).save(tmp_path / "rgba.png")
    assert np.abs(seen(tmp_path / "rgba.png", 3, ground) - blended(rgb, alpha, ground)).max() <= 1
    Image.fromarray(np.dstack([rgb[..., 0], alpha]), "LA").save(tmp_path / "la.png")
    gray = np.repeat(rgb[..., :1], 3, 2)
    assert np.abs(seen(tmp_path / "la.png", 3, ground) - blended(gray, alpha, ground)).max() <= 1
    luma = blended(rgb, alpha, ground) @ [0.299, 0.587, 0.114]
    assert np.abs(seen(tmp_path / "rgba.png", 1, ground)[..., 0] - luma).max() <= 2


def test_transparent_palette_color_shows_the_background(tmp_path):
    gray = np.array([[0, 60], [60, 200]], dtype=np.uint8)
    Image.fromarray(gray).save(tmp_path / "l.png", transparency=60)
    Image.fromarray(np.dstack([gray] * 3)).save(tmp_path / "rgb.png", transparency=(60, 60, 60))
    indexed = Image.fromarray(gray).convert("P")
    indexed.save(tmp_path / "p.png", transparency=60)
    indexed.save(tmp_path / "p.gif", transparency=60)
    expected = np.where(gray == 60, 255, gray)
    for name in ("l.png", "rgb.png", "p.png", "p.gif"):
        assert np.array_equal(seen(tmp_path / name)[..., 0], expected), name
    deep = np.array([[0, 60 * 257], [60 * 257, 200 * 257]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "sixteen.png", transparency=60 * 257)
    assert np.array_equal(seen(tmp_path / "sixteen.png")[..., 0], expected)


def icons(folder, flat):
    """Black shapes on a transparent black background; `flat`: on white."""
    rng = np.random.default_rng(0)
    for kind in ("circle", "cross"):
        (folder / kind).mkdir(parents=True)
        for i in range(20):
            x, y = rng.integers(2, 6, 2).tolist()
            mask = Image.new("L", (16, 16))
            draw = ImageDraw.Draw(mask)
            if kind == "circle":
                draw.ellipse([x, y, x + 8, y + 8], outline=255, width=2)
            else:
                draw.line([x, y, x + 8, y + 8], 255, 2)
                draw.line([x + 8, y, x, y + 8], 255, 2)
            image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
            image.putalpha(mask)
            if flat:
                white = Image.new("RGBA", (16, 16), "white")
                white.alpha_composite(image)
                image = white.convert("RGB")
            image.save(folder / kind / f"{i:02d}.png")


@pytest.fixture
def both(tmp_path):
    icons(tmp_path / "clear", flat=False)
    icons(tmp_path / "white", flat=True)
    return tmp_path


def settings(root, *more):
    return ("model=fc", "data=folder", f"data.root={root}", "data.size=16", *more)


@pytest.mark.parametrize("keep", ["true", "false"])
def test_transparent_icons_equal_icons_on_white(config, both, keep):
    clear, white = (
        data_of(config, *settings(both / name, f"data.in_memory={keep}"))
        for name in ("clear", "white")
    )
    for part in ("train", "val", "test"):
        one, other = getattr(clear, part), getattr(white, part)
        everyone = torch.arange(len(one))
        assert torch.equal(one[everyone][0], other[everyone][0])


@pytest.fixture
def icons_run(both, config):
    """A classifier of the transparent icons, with its own background."""
    cfg = config(*settings(both / "clear", "data.background=[200,200,200]",
                           "trainer.max_epochs=30", "callbacks=none",
                           "logger=csv", "trainer=cpu", "trainer.precision=32-true",
                           "data.batch_size=8"))  # fmt: skip
    folder = saved(cfg, both / "run")
    assert train(cfg, folder)["test/acc"] == 1, "the images are not uniform"
    return folder


def test_predict_uses_the_background_of_the_run(icons_run, both):
    out = (f"out={both}/x.csv", "picture=null")
    predictions = call("predict", predict, f"run={icons_run}", f"images={both}/clear", *out)
    corners = predictions.shown[:, :, 0, 0]
    assert torch.allclose(corners, torch.full_like(corners, 200 / 255))


def test_cache_distinguishes_backgrounds(config, both, tmp_path):
    cache = f"cache={tmp_path / 'cache'}"
    for ground, corner in (("white", 255), ("black", 0), ("[1,2,3]", 1), ("'#070000'", 7)):
        data = data_of(config, *settings(both / "clear", cache, f"data.background={ground}"))
        assert (data.train.images[:, 0, 0, 0] == corner).all(), ground


def test_augment_uses_its_background_and_keeps_the_files(both):
    out = both / "out"
    call("augment", augment, f"data.root={both}/clear", "augment=flip", f"out={out}",
         "data.background=red", "data.test_size=0",
         "data.val_size=0")  # fmt: skip
    made = seen(out / "train" / "circle" / "00.png.1.png")
    assert made[0, 0].tolist() == [255, 0, 0]
    kept, source = out / "train" / "circle" / "00.png", both / "clear" / "circle" / "00.png"
    assert kept.read_bytes() == source.read_bytes()
    preview(source, both / "sheet.png", 0, "red")
    first = np.asarray(Image.open(both / "sheet.png").convert("RGB"))[8:104]
    assert (first == [255, 0, 0]).all(2).any()
    assert not (first == [0, 0, 0]).all(2)[:8].any(), "only the shape is black"


def test_style_pair_uses_the_background(config, both):
    data = data_of(config, "model=style_transfer", "data=style_pair",
                   f"data.content={both}/clear/circle/00.png",
                   f"data.style={both}/clear/cross/00.png", "data.size=16",
                   "data.background=lime")  # fmt: skip
    assert data.train.images[:, :, 0, 0].tolist() == [[0, 255, 0]] * 2


@pytest.mark.parametrize("wrong", ["whyte", "[1,2]", "[1,2,256]", "7", "true", "[1,2,x]", "null"])
def test_invalid_background_color_is_named(wrong):
    cfg = compose("train", ["data=folder", "data.root=x", f"data.background={wrong}"])
    with pytest.raises(UserError, match=r"data\.background=.*: must be a color's name"):
        check(cfg)


def test_color_is_parsed_from_names_and_numbers():
    for background in ("red", "#f00", "#ff0000", "rgb(255,0,0)", [255, 0, 0]):
        assert parse_color(background) == (255, 0, 0)
