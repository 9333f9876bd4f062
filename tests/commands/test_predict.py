"""src.predict: the files it finds, its predictions, its table, CSV file and picture, and
unreadable files."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from src.core.errors import Incomplete, UserError
from src.core.inputs import find_images
from src.engine import build
from src.engine.load import load_run
from src.predict import predict
from src.viz import captions
from tests.conftest import call, command, logits_of_the_average


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def probabilities_in(path):
    return np.array([[float(row[str(k)]) for k in range(10)] for row in rows_of(path)])


def digit(data, i, size):
    return Image.fromarray(data.test.images[i, 0].numpy()).resize(size, Image.Resampling.BICUBIC)


def seen_as(image):
    """Return what the net gets for an upright image: gray on white, the square in the middle, 28
    x 28."""
    if image.mode == "RGBA":
        rgba = np.asarray(image).astype(float)
        alpha = rgba[..., 3:] / 255
        on_white = alpha * rgba[..., :3] + (1 - alpha) * 255
        image = Image.fromarray(on_white.round().astype(np.uint8))
    w, h = image.size
    side = min(w, h)
    box = ((w - side) / 2, (h - side) / 2, (w + side) / 2, (h + side) / 2)
    return np.asarray(image.convert("L").resize((28, 28), Image.Resampling.BILINEAR, box)) / 255


@pytest.fixture(scope="module")
def photos(averaged_run, tmp_path_factory):
    """Return a folder with images of many sizes and modes, two broken files and two other files,
    and the expected probabilities."""
    data = build.datamodule(load_run(averaged_run)[0])
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    (folder / ".hidden").mkdir()
    clear = Image.new("L", (60, 60), 255)
    clear.paste(90, (0, 0, 30, 60))  # transparency, which is laid on white
    color = digit(data, 0, (60, 60)).convert("RGB")
    rgba = Image.merge("RGBA", (*color.split(), clear))
    turned = digit(data, 1, (90, 70)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    images = {
        "a [1] größe.png": rgba,
        "b.jpg": turned,
        "c.gif": digit(data, 2, (28, 28)),
        "more/d.png": digit(data, 3, (28, 40)),
    }
    for name, image in images.items():
        image.save(folder / name, **({"exif": exif, "quality": 95} if name == "b.jpg" else {}))
    (folder / "broken.png").write_bytes((folder / "c.gif").read_bytes()[:60])
    (folder / "more" / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    images["c.gif"].save(folder / ".hidden" / "e.png")
    images["b.jpg"] = Image.open(folder / "b.jpg").transpose(
        Image.Transpose.ROTATE_270
    )  # as JPEG changed it
    pixels = np.stack([seen_as(image) for image in images.values()])[:, None]
    return folder, list(images), softmax(logits_of_the_average(averaged_run, pixels))


def test_predict_writes_table_csv_and_picture_for_a_folder(averaged_run, photos, tmp_path):
    folder, names, expected = photos
    args = (
        f"run={averaged_run}",
        f"images={folder}",
        "batch_size=3",
        "top=2",
        f"out={tmp_path}/x/said.csv",
    )
    result = command("predict", *args, f"picture={tmp_path}/x/said.png")
    assert result.returncode == 1
    left_out, *bad = result.stderr.splitlines()
    assert left_out == f"{folder}: left out 2 files: 1 of other kinds (.txt), 1 hidden"
    assert len(bad) == 2
    assert "broken.png is not a readable image" in bad[0]
    assert "empty.jpg is not a readable image" in bad[1]
    rows = rows_of(tmp_path / "x" / "said.csv")
    assert [row["file"] for row in rows] == [str(folder / name) for name in names]
    assert probabilities_in(tmp_path / "x" / "said.csv") == pytest.approx(expected, abs=2e-5)
    for row, said, line in zip(rows, expected, result.stdout.splitlines(), strict=False):
        first, second = said.argsort()[::-1][:2]
        assert row["class"] == str(first)
        assert float(row["probability"]) == pytest.approx(said[first], abs=2e-5)
        assert line.startswith(row["file"])
        assert line.split()[-4:] == [
            str(first),
            f"{said[first]:.1%}",
            str(second),
            f"{said[second]:.1%}",
        ]
    assert np.asarray(Image.open(tmp_path / "x" / "said.png")).std() > 10


def test_readable_images_alone_exit_with_0(averaged_run, photos, tmp_path):
    folder, names, expected = photos
    given = f"images=['{folder / names[0]}','{folder}/c.*','{folder}/../{folder.name}/c.gif']"
    answers = call(
        "predict", predict, f"run={averaged_run}", given, f"out={tmp_path}/x.csv", "picture=null"
    )
    assert answers.probabilities.numpy() == pytest.approx(expected[[0, 2]], abs=2e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_predict_applies_the_pixel_permutation(permuted_run, tmp_path):
    """An image gets the same logits as the run's own permuted test image."""
    cfg, model, _ = load_run(permuted_run)
    permuted = build.datamodule(cfg).test.images[:70]
    cfg.data.permute = False
    for i, image in enumerate(build.datamodule(cfg).test.images[:70]):
        Image.fromarray(image[0].numpy()).save(tmp_path / f"{i:02}.png")
    answers = call("predict", predict, f"run={permuted_run}", f"images={tmp_path}/*",
                   f"out={tmp_path}/x.csv",
                   f"picture={tmp_path}/x.png")  # fmt: skip
    with torch.no_grad():
        expected = softmax(model(permuted.float() / 255).double().numpy())
    assert answers.probabilities.numpy() == pytest.approx(expected, abs=1e-5)
    assert answers.shown.shape == (64, 1, 28, 28), "the picture has an end"


def test_wrong_settings_of_predict_get_one_line(averaged_run, gan_run, photos, tmp_path):
    folder, _, _ = photos
    (tmp_path / "none").mkdir()

    def line(*overrides, run=averaged_run):
        with pytest.raises(UserError) as error:
            call(
                "predict",
                predict,
                f"run={run}",
                f"out={tmp_path}/x.csv",
                "picture=null",
                *overrides,
            )
        return str(error.value)

    assert "holds a GAN; give the run of a classifier" in line(f"images={folder}", run=gan_run)
    assert f"images={tmp_path}/none: a folder without images" in line(f"images={tmp_path}/none")
    assert "no such file or folder" in line(f"images=['{folder}','{folder}/*.bmp']")
    assert "top=0" in line(f"images={folder}", "top=0")
    assert "picture=x.txt: must be a name that ends in one of .png" in line(
        f"images={folder}", "picture=x.txt"
    )
    assert "out=/proc/x.csv cannot be written" in line(f"images={folder}/c.gif", "out=/proc/x.csv")
    assert "picture=/proc/x.png cannot be written" in line(
        f"images={folder}/c.gif", "picture=/proc/x.png"
    )
    with pytest.raises(
        Incomplete, match=r"notes\.txt is not a readable image"
    ):  # named, so it is tried
        call("predict", predict, f"run={averaged_run}",
             f"images=['{folder}/notes.txt','{folder}/c.gif']",
             f"out={tmp_path}/x.csv", "picture=null")  # fmt: skip
    before = (folder / "c.gif").read_bytes()
    for name in ("out", "picture"):
        assert f"{name}={folder}/c.gif is one of the images" in line(
            f"images={folder}/c.gif", f"{name}={folder}/c.gif"
        )
    assert (folder / "c.gif").read_bytes() == before
    (tmp_path / "x.csv").unlink()
    assert "none of 2 files can be read: " in line(
        f"images=['{folder}/broken.png','{folder}/more/empty.jpg']"
    )
    assert not (tmp_path / "x.csv").exists()


def test_find_images_returns_each_file_once_in_order(tmp_path, monkeypatch):
    for name in (
        "b.png",
        "a.JPG",
        "c.txt",
        "d.pdf",
        ".e.png",
        "sub/f.webp",
        "sub/.g/h.png",
        "sub/deep/i.tif",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")

    def names(*given):
        return [str(path.relative_to(tmp_path)) for path in find_images(list(given))]

    inside = ["a.JPG", "b.png", "sub/deep/i.tif", "sub/f.webp"]
    assert names(str(tmp_path)) == inside
    assert names(f"{tmp_path}/b.png", str(tmp_path), f"{tmp_path}/sub/../a.JPG") == [
        "b.png",
        "a.JPG",
        *inside[2:],
    ]
    assert names(f"{tmp_path}/**/*.[wt]*") == ["c.txt", "sub/deep/i.tif", "sub/f.webp"]
    assert names(f"{tmp_path}/s*") == inside[2:]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert names("~/sub/*.webp", "~/.e.png") == ["sub/f.webp", ".e.png"]


def test_caption_is_below_its_image():
    """The images are enlarged but unchanged; ink is below each one that has a caption."""
    images = torch.rand(3, 1, 5, 40, generator=torch.Generator().manual_seed(0))
    red, blue = (255, 0, 0), (0, 0, 255)
    picture = captions.draw_captioned(
        images, ["one\ntwo", "", "long " * 50], columns=3, scale=3, colors=[red, red, blue]
    )
    gap, height, width = 8, 15, 180  # a long line does not widen its cell beyond this
    assert picture.shape[1] == gap + 3 * (width + gap)
    bytes_ = (images * 255).round().byte().numpy()
    for i, (rows, color) in enumerate(((2, red), (0, red), (1, blue))):
        cell = picture[gap:, gap + i * (width + gap) :][:, :width]
        left = (width - 120) // 2
        assert np.array_equal(
            cell[:height, left : left + 120, 1], bytes_[i, 0].repeat(3, 0).repeat(3, 1)
        )
        text = cell[height:].astype(int)
        ink = (text != 255).any(2)
        lines = np.diff(ink.any(1).astype(int), prepend=0) == 1
        assert lines.sum() == rows
        for channel in (0, 1, 2):  # ink is a shade between white and its color
            assert not ink.any() or (text[..., channel][ink] == 255).all() == (
                color[channel] == 255
            )
    between = picture[gap + height :, gap + width : 2 * gap + width]
    assert (between == 255).all()


def test_images_are_enlarged_to_the_width_of_their_captions():
    images = torch.rand(1, 3, 28, 28)
    wide, narrow = (
        captions.draw_captioned(images, [caption]).shape[1]
        for caption in ("Staffordshire terrier", "7")
    )
    assert narrow == 3 * 28 + 16
    assert wide % 28 == 16
    assert 28 * 4 < wide < 28 * 8
    accented, plain = (
        captions.draw_captioned(images, [caption]) for caption in ("größe: ж", "gro?e: ?")
    )
    assert not np.array_equal(accented, plain), "letters of any script are drawn"
