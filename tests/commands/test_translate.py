"""A trained CycleGAN in src.translate, src.augment and src.sample."""

import csv
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from src.augment import augment
from src.config.checks import check
from src.config.compose import compose
from src.core.errors import Incomplete, UserError
from src.data.decode import Fit, decode
from src.engine.load import load_run
from src.sample import sample
from src.translate import translate
from tests.conftest import call


def test_images_of_any_size_are_translated_without_a_shift(winter_run):
    _, model, _ = load_run(winter_run)
    x = torch.rand(1, 3, 21, 30)
    around = F.pad(x * 2 - 1, (0, 2, 0, 3), mode="replicate")
    assert torch.equal(model.translate(x), (model.g(around)[:, :, :21, :30] + 1) / 2)
    assert model.translate(torch.rand(1, 3, 5, 6)).shape == (1, 3, 5, 6)
    with pytest.raises(ValueError, match="of 40 x 4 is too small: it needs 5 x 5"):
        model.translate(torch.rand(1, 3, 4, 40))
    whole = torch.rand(1, 3, 20, 32)
    assert torch.equal(model.translate(whole), (model.g(whole * 2 - 1) + 1) / 2)


def test_translate_writes_a_folder_of_the_same_layout(winter_run, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    noise = np.random.default_rng(1)
    for name in ("a.png", "a.jpg", "deep/b.png"):
        Image.fromarray(noise.integers(0, 256, (24, 20, 3), dtype=np.uint8)).save(
            tmp_path / "in" / name
        )
    ask = (f"run={winter_run}", f"images={tmp_path / 'in'}", "to=a")
    call("translate", translate, *ask, f"out={tmp_path / 'out'}")
    made = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.png"))
    assert made == ["a.png", "a.png.png", "deep/b.png"]  # a.jpg came first
    for name in ("a.png.bmp", "a.bmp"):
        Image.new("RGB", (20, 24)).save(tmp_path / "in" / name)
    names = ",".join(str(tmp_path / "in" / name) for name in ("a.bmp", "a.png.bmp", "a.png"))
    call("translate", translate, ask[0], f"images=[{names}]", f"out={tmp_path / 'list'}")
    assert len(list((tmp_path / "list").iterdir())) == 3, "none is overwritten"
    for name in ("a.png.bmp", "a.bmp"):
        (tmp_path / "in" / name).unlink()
    _, model, _ = load_run(winter_run)
    image = decode(tmp_path / "in" / "deep" / "b.png", Fit(None, 3)).unsqueeze(0) / 255
    expected = (model.translate(image, "a") * 255).round().byte()[0]
    assert torch.equal(decode(tmp_path / "out" / "deep" / "b.png", Fit(None, 3)), expected)
    with pytest.raises(UserError, match="exists and is not empty"):
        call("translate", translate, *ask, f"out={tmp_path / 'out'}")
    (tmp_path / "in" / "bad.png").write_text("nothing")
    with pytest.raises(Incomplete, match=r"bad\.png is not a readable image"):
        call("translate", translate, *ask, f"out={tmp_path / 'again'}", "size=16")
    (tmp_path / "in" / "bad.png").unlink()
    Image.new("RGB", (30, 3)).save(tmp_path / "in" / "flat.png")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "out" / "a.png")
    with pytest.raises(Incomplete, match=r"flat\.png: an image of 30 x 3 is too small"):
        call("translate", translate, *ask, f"out={tmp_path / 'third'}")
    assert (tmp_path / "third" / "link.png").is_file()
    assert decode(tmp_path / "again" / "deep" / "b.png", Fit(None, 3)).shape == (3, 16, 16)
    assert len(list((tmp_path / "again").rglob("*.png"))) == 3


def test_a_trained_run_augments_a_folder(winter_run, photos, tmp_path):
    """Labels, originals and split are kept; the manifest names the run; the same seed gives the
    same bytes."""
    settings = (
        f"data.root={photos}",
        "data.test_size=40",
        "data.val_size=0",
        "augment=model",
        f"augment.run={winter_run}",
    )
    for out in ("out", "again"):
        call("augment", augment, *settings, f"out={tmp_path / out}")
    out = tmp_path / "out"
    with (out / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 32
    assert all(str(winter_run) in row["transforms"] for row in rows)
    _, model, _ = load_run(winter_run)
    row = rows[5]
    image = decode(out / row["source"], Fit(None, 3)).unsqueeze(0) / 255
    assert torch.equal(
        decode(out / row["file"], Fit(None, 3)), (model.translate(image) * 255).round().byte()[0]
    )
    assert row["file"].startswith(f"train/{row['class']}/")
    assert all(
        (tmp_path / "again" / row["file"]).read_bytes() == (out / row["file"]).read_bytes()
        for row in rows
    )
    assert all(json.loads(row["transforms"]) == {"run": str(winter_run), "to": "b"} for row in rows)
    call("augment", augment, *settings, "augment.size=20", f"out={tmp_path / 'larger'}")
    assert decode(tmp_path / "larger" / row["file"], Fit(None, 3)).shape == (3, 20, 20)
    call("augment", augment, *settings, "augment.size=[20,24]", f"out={tmp_path / 'wider'}")
    assert decode(tmp_path / "wider" / row["file"], Fit(None, 3)).shape == (3, 20, 24)


def test_each_image_is_translated_by_one_of_several_runs(winter_run, photos, tmp_path):
    twin = tmp_path / "twin"
    twin.symlink_to(winter_run)
    settings = (f"data.root={photos}", "data.test_size=40", "data.val_size=0", "augment=model")
    call(
        "augment",
        augment,
        *settings,
        f"augment.run=[{winter_run},{twin}]",
        f"out={tmp_path / 'out'}",
    )
    with (tmp_path / "out" / "manifest.csv").open() as file:
        used = [str(twin) in row["transforms"] for row in csv.DictReader(file)]
    assert 5 < sum(used) < 27
    call(
        "augment",
        augment,
        *settings,
        f"augment.run=[{winter_run},{twin}]",
        "factor=3",
        f"out={tmp_path / 'thrice'}",
    )
    with (tmp_path / "thrice" / "manifest.csv").open() as file:
        runs = [json.loads(row["transforms"])["run"] for row in csv.DictReader(file)]
    assert [
        str(twin) == run for run in runs[::2]
    ] == used  # the first copy is the one that factor=2 makes
    assert all(
        {*both} == {str(winter_run), str(twin)} for both in zip(runs[::2], runs[1::2], strict=True)
    )


def test_models_that_cannot_augment_get_one_line(winter_run, photos, averaged_run, tmp_path):
    root, out = f"data.root={photos}", f"out={tmp_path / 'x'}"
    for more, words in (
        (
            [f"augment.run={averaged_run}"],
            "a Classifier cannot translate images or sample classes; give a run of cyclegan",
        ),
        (
            [f"augment.run={winter_run}", "data.channels=1"],
            "makes images with 3 channels, but the data has 1",
        ),
        ([f"augment.run={tmp_path}"], "is not a run folder"),
        (
            [f"augment.run={winter_run}", "factor=3"],
            "factor=3: a cyclegan or .* must name 2 runs or more, not 1",
        ),
    ):
        with pytest.raises(UserError, match=words):
            call("augment", augment, root, out, "augment=model", *more)
    with pytest.raises(UserError, match="augment=model cannot be combined with flip"):
        call("augment", augment, root, out, "augment=[flip,model]", f"augment.run={winter_run}")
    with pytest.raises(UserError, match=r"augment\.run must be given"):
        call("augment", augment, root, out, "augment=model")
    with pytest.raises(UserError, match="augment=model is applied before training"):
        check(compose("train", ["model=lenet", "augment=model", f"augment.run={winter_run}"]))
    with pytest.raises(UserError, match="holds a Classifier, which cannot translate images"):
        call("translate", translate, f"run={averaged_run}", f"images={photos}", out)
    assert not (tmp_path / "x").exists()


def test_data_have_no_effect_on_samples_of_a_model_that_reads_none(words_run, tmp_path):
    with pytest.raises(UserError, match=r"data\.root has no effect: a WordVectors reads no data"):
        call("sample", sample, f"run={words_run}", "+data.root=x", f"out={tmp_path / 'x.png'}")


def test_sample_draws_rows_of_test_images(winter_run, tmp_path, capsys):
    call("sample", sample, f"run={winter_run}", "n=3", "scale=1", f"out={tmp_path / 'rows.png'}")
    assert Image.open(tmp_path / "rows.png").size == (6 * 18 + 2, 3 * 18 + 2)
    call("sample", sample, f"run={winter_run}", "n=99", "scale=1", f"out={tmp_path / 'rows.png'}")
    assert "n=99: the data has only 4 rows" in capsys.readouterr().out
