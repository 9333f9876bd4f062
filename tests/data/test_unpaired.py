"""Two domains of images: content, order, and errors."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from src.config.checks import check
from src.config.compose import compose
from src.core.errors import UserError
from src.data.decode import Fit, decode
from src.data.images import ImageSet
from src.data.sets import files
from src.data.transforms.pixels import add_winter
from src.engine import build
from src.engine.load import load_run
from src.evaluate import evaluate
from src.train import train
from tests.conftest import WINTER_NET, WINTER_RUN, call, command, data_of, saved, wrong


def test_add_winter_equals_scipy():
    image = np.random.default_rng(0).random((2, 3, 9, 12))
    foggy = ndimage.gaussian_filter(image, 2, axes=(2, 3), mode="mirror", radius=6)
    luma = 0.299 * foggy[:, 0] + 0.587 * foggy[:, 1] + 0.114 * foggy[:, 2]
    relief = np.zeros_like(luma)
    for row in range(9):
        above = np.mean([luma[:, max(row - k, 0)] for k in (1, 2, 3)], 0)
        below = np.mean([luma[:, min(row + k, 8)] for k in (1, 2, 3)], 0)
        relief[:, row] = (above - below) / 2
    expected = (0.75 * foggy + (0.25 * luma + relief)[:, None]).clip(0, 1)
    assert np.allclose(add_winter(torch.tensor(image)).numpy(), expected, atol=1e-6)


def test_add_winter_depends_on_neighbors_and_orientation():
    image = torch.full((1, 3, 16, 16), 0.8)
    image[:, :, 8:] = 0.2
    winter = add_winter(image)
    far, near = winter[0, :, 15, 8], winter[0, :, 9, 8]
    assert (near - far).min() > 0.2  # both are 0.2 in the image
    turned = add_winter(image.flip(2)).flip(2)
    assert (turned - winter).abs().amax() > 0.2
    assert torch.allclose(add_winter(image.flip(3)).flip(3), winter, atol=1e-6)


def test_winter_domains_are_disjoint_in_training_and_paired_in_test(config, photos):
    data = data_of(
        config,
        *WINTER_NET,
        "data=winter",
        f"data.root={photos}",
        "data.test_size=8",
        "data.val_size=4",
    )
    assert (len(data.train), len(data.val), len(data.test)) == (30, 4, 8)
    a, b = data.train[torch.arange(30)]

    def wintery(images):
        return (add_winter(images.float() / 255) * 255).round().byte()

    differences = (wintery(a).unsqueeze(1).float() - b.unsqueeze(0)).abs().amax((2, 3, 4))
    assert differences.min() > 5
    everything = {decode(path, Fit(None, 3)).numpy().tobytes() for path in photos.rglob("*.png")}
    assert all(image.numpy().tobytes() in everything for image in a)
    for part in (data.test, data.val):
        image_a, image_b = part[torch.arange(len(part))]
        assert torch.equal(wintery(image_a), image_b)


def test_domains_are_shuffled_independently(config, photos):
    data = data_of(config, *WINTER_RUN, f"data.root={photos}")
    sampler = data._loader(data.train, "train").sampler
    first, second = (torch.cat(list(sampler)) for _ in range(2))
    assert torch.equal(first, second), "the order is a function of the epoch"
    sampler.position = lambda: (1, 0)
    other = torch.cat(list(sampler))
    for order in (first, other):
        assert (
            order[:, 0].sort().values.tolist()
            == order[:, 1].sort().values.tolist()
            == list(range(32))
        )
        assert (order[:, 0] == order[:, 1]).sum() < 8
    assert not torch.equal(first[:, 0], other[:, 0])
    assert not torch.equal(first[:, 1], other[:, 1])


def test_unpaired_folders_of_unequal_size(config, tmp_path):
    """The smaller domain repeats; each is split on its own; sub-folders are read."""
    for name, n in (("a", 9), ("b/more", 20)):
        (tmp_path / name).mkdir(parents=True)
        for i in range(n):
            Image.new("RGB", (20, 20), (i, 0, 0)).save(tmp_path / name / f"{i}.png")
    roots = (f"data.root_a={tmp_path / 'a'}", f"data.root_b={tmp_path / 'b'}")
    data = data_of(
        config, *WINTER_NET, "data=unpaired", *roots, "data.val_size=1", "data.test_size=4"
    )
    assert (len(data.train), len(data.val), len(data.test)) == (15, 1, 4)
    a, b = data.train[torch.arange(15).unsqueeze(1).expand(-1, 2)]
    assert a[:, 0, 0, 0].tolist() == (a[:4, 0, 0, 0].tolist() * 4)[:15]
    assert len(b[:, 0, 0, 0].unique()) == 15
    held_out = torch.cat(
        [part[torch.arange(len(part))][1][:, 0, 0, 0] for part in (data.val, data.test)]
    )
    assert not set(held_out.tolist()) & set(b[:, 0, 0, 0].tolist())
    assert not data.paired


def test_repeated_image_is_evaluated_once(config, tmp_path):
    """Domain B is larger, so the last batches hold images of B only."""
    noise = np.random.default_rng(0)
    for name, n in (("a", 6), ("b", 20)):
        (tmp_path / name).mkdir()
        for i in range(n):
            pixels = noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    cfg = config(*WINTER_NET, "data=unpaired", f"data.root_a={tmp_path / 'a'}",
                 f"data.root_b={tmp_path / 'b'}",
                 "data.val_size=0", "data.test_size=0.5", "data.eval_batch_size=4", "test=true",
                 "trainer.max_epochs=1")  # fmt: skip
    values = train(cfg, saved(cfg, tmp_path / "run"))
    data, (_, model, _) = build.datamodule(cfg), load_run(tmp_path / "run")
    batches = list(data.test_dataloader())
    assert [(len(a), len(b)) for a, b in batches] == [(3, 4), (0, 4), (0, 2)]
    with torch.no_grad():
        for name, other in (("a", "b"), ("b", "a")):
            images = getattr(data.test, name).images.float() / 255
            back = model.translate(model.translate(images, other), name)
            expected = np.abs(back.double().numpy() - images.double().numpy()).mean()
            assert values[f"test/cycle_{name}"] == pytest.approx(expected, rel=1e-5)
    assert values["test/n"] == 10


def test_both_domains_are_augmented_independently(config, photos):
    data = data_of(config, *WINTER_RUN, f"data.root={photos}", "augment=flip")
    (rows,) = list(data._loader(data.train, "train").sampler)[:1]
    pair = [images.float() / 255 for images in data.train[rows]]
    for x, out in zip(pair, data.transform_training(*pair, rows, (2, 0, 0)), strict=True):
        kept, turned = ((out == y).flatten(1).all(1) for y in (x, x.flip(3)))
        assert (kept | turned).all()
        assert 0 < turned.sum() < 8


def test_unpaired_domains_log_no_psnr(config, photos, tmp_path):
    roots = (f"data.root_a={photos / 'cats'}", f"data.root_b={photos / 'dogs'}")
    cfg = config(
        *WINTER_NET,
        "data=unpaired",
        *roots,
        "trainer.max_epochs=1",
        "data.batch_size=1",
        "data.limit=5",
        "test=true",
    )
    values = train(cfg, saved(cfg, tmp_path / "run"))
    assert values["batches"] == 5, "the paper uses batches of one image"
    measured = {name for name in values if name.startswith("test/")}
    assert measured == {"test/cycle_a", "test/cycle_b", "test/n"}
    moved = shutil.copytree(photos, tmp_path / "moved")
    places = (f"data.root_a={moved / 'dogs'}", f"data.root_b={moved / 'dogs'}")
    again = call("evaluate", evaluate, f"run={tmp_path / 'run'}", *places)
    assert again["test/cycle_a"] != values["test/cycle_a"], "of other photographs"
    for word in (f"data.root={moved}", f"data.content={moved}"):
        with pytest.raises(
            UserError,
            match=r"data=unpaired allows only data\.root_a, data\.root_b, data\.cache",
        ):
            call("evaluate", evaluate, f"run={tmp_path / 'run'}", word)


@pytest.mark.parametrize(("limit", "kept"), [(72, True), (71, False)])
def test_both_domains_fit_in_memory_or_both_are_streamed(config, photos, monkeypatch, limit, kept):
    monkeypatch.setattr(files, "MEMORY_LIMIT", limit * 3 * 16 * 16)
    roots = (f"data.root_a={photos / 'cats'}", f"data.root_b={photos / 'dogs'}")
    train = data_of(config, *WINTER_NET, "data=unpaired", *roots).train
    assert [isinstance(part, ImageSet) for part in (train.a, train.b)] == [kept, kept]


def test_domains_without_validation_and_test_can_be_trained(config, photos, tmp_path):
    """Nothing is evaluated, and the grids show training images."""
    photos = shutil.copytree(photos, tmp_path / "photos")
    (photos / "cats" / "Thumbs.db").write_bytes(b"no image")
    roots = (
        f"data.root_a={photos / 'cats'}",
        f"data.root_b={photos / 'dogs'}",
        "data.val_size=0",
        "data.test_size=0",
    )
    cfg = config(*WINTER_NET, "data=unpaired", *roots, "trainer.max_epochs=1",
                 "callbacks=default", "~callbacks.quality",
                 "data.limit=2", "callbacks.samples.n=8")  # fmt: skip
    cfg.test = True
    with pytest.raises(UserError, match=r"data\.test_size=0 leaves nothing to test on; to train"):
        train(cfg, tmp_path / "refused")
    cfg.test = False
    values = train(cfg, saved(cfg, tmp_path / "run"))
    assert not [name for name in values if name.startswith(("test/", "val/"))]
    assert (tmp_path / "run" / "images" / "comparisons.gif").is_file()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["data=mnist"],
            ["takes two domains of images (data=unpaired or winter)", "data=mnist holds images"],
        ),
        (["data=unpaired"], ["data.root_a must be given"]),
        (
            ["data=unpaired", "data.root_a=x", "data.root_b=y"],
            ["data.root_a=x is not a folder with images"],
        ),
        (
            ["data=winter", "data.root=x", "trainer.gradient_clip_val=1"],
            ["uses manual optimization"],
        ),
        (
            ["data=winter", "data.root=x", "data.permute=true"],
            ["data.permute=true", "CycleGAN takes images as they are"],
        ),
        (
            ["data=winter", "data.root=x", "data.channels=1"],
            ["data.channels=1", "the winter effect takes color from its images"],
        ),
        (
            ["data=winter", "data.root=x", "data.in_memory=false"],
            ["data.in_memory=false: the winter effect is computed once, in memory"],
        ),
        (
            ["data=winter", "data.root=x", "data.size=6"],
            ["data.size=[6, 6]", "sides of at least 7"],
        ),
        (
            ["data=winter", "data.root=x", "model.pool_size=-1"],
            ["model.pool_size=-1", "a whole number of at least 0"],
        ),
    ],
)
def test_invalid_settings_are_one_line_errors(overrides, words):
    with pytest.raises(UserError) as error:
        _read(compose("train", ["model=cyclegan", *overrides]))
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def _read(cfg):
    check(cfg)
    build.datamodule(cfg)


def test_winter_needs_an_image_for_each_domain(tmp_path):
    (tmp_path / "in" / "cats").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "in" / "cats" / "1.png")
    overrides = ["data=winter", f"data.root={tmp_path / 'in'}", "data.test_size=0",
                 "data.val_size=0", "data.cache=null", "test=false"]  # fmt: skip
    with pytest.raises(UserError, match="needs two training images, one for each domain"):
        _read(compose("train", ["model=cyclegan", *overrides]))


def test_plain_images_are_refused_by_cyclegan(tmp_path):
    line = wrong(
        command("train", "model=dcgan", "data=winter", "data.root=x", f"out={tmp_path / 'runs'}")
    )
    assert "a GAN takes images (data=" in line
    assert "data=winter holds two domains of images" in line
    assert not (tmp_path / "runs").exists()
