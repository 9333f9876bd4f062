"""Splits, sizes, orders and batches of any data set."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from src.core.errors import UserError
from src.data import images
from src.data.decode import Fit, decode
from src.data.images import fitting_batch
from src.data.order import EpochSampler
from src.data.transforms.pixels import binarize, place_randomly, resize
from src.engine import build
from tests.conftest import TINY, data_of


def test_the_three_sets_are_disjoint_and_complete(config):
    data = data_of(config)
    rows = [
        {bytes(image.numpy()) for image in part.images}
        for part in (data.train, data.val, data.test)
    ]
    assert sum(len(part) for part in (data.train, data.val, data.test)) == 1797
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]
    assert not rows[1] & rows[2]


def test_limit_and_train_size_set_the_number_of_images(config):
    data = data_of(config, "data.train_size=700", "data.val_size=50")
    assert (len(data.train), len(data.val), len(data.test)) == (700, 50, 360)
    data = data_of(config, "data.limit=30")
    assert [len(part) for part in (data.train, data.val, data.test)] == [30, 30, 30]
    with pytest.raises(
        UserError, match=r"data\.train_size=1500 and data.val_size=180 do not fit digits"
    ):
        data_of(config, "data.train_size=1500")


def test_train_per_class_draws_equally_from_each_class(config):
    """The draw depends on split_seed; a larger draw contains a smaller one; validation and test
    stay."""
    few, more, whole = (
        data_of(config, f"data.train_per_class={n}", "seed=1") for n in (5, 20, "null")
    )
    elsewhere = data_of(config, "data.train_per_class=5", "data.split_seed=1")
    assert few.train.labels.bincount().tolist() == [5] * 10
    assert more.train.labels.bincount().tolist() == [20] * 10
    rows = [
        {bytes(image.numpy()) for image in data.train.images}
        for data in (few, more, whole, elsewhere)
    ]
    assert rows[0] < rows[1] < rows[2]
    assert rows[0] != rows[3]
    for part in ("val", "test"):
        assert torch.equal(getattr(few, part).images, getattr(whole, part).images)
    with pytest.raises(
        UserError, match=r"data\.train_per_class=200: class [0-9] has only 1\d\d training images"
    ):
        data_of(config, "data.train_per_class=200")


def test_evaluation_images_do_not_depend_on_the_seed(config):
    one, other = data_of(config, "seed=0"), data_of(config, "seed=1")
    assert torch.equal(one.test.images, other.test.images)
    assert torch.equal(one.val.images, other.val.images)
    elsewhere = data_of(config, "data.split_seed=1")
    assert not torch.equal(one.test.images, elsewhere.test.images)


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 1), (14, 1)])
def test_resize_sets_size_and_channels(size, channels):
    images = torch.arange(256).byte().view(1, 1, 16, 16).repeat(3, 1, 1, 1)
    out = resize(images, (size, size + 4), channels)
    assert out.shape == (3, channels, size, size + 4)
    assert out.float().mean().item() == pytest.approx(127.5, abs=1.5)
    assert resize(images, (16, 16), 1).equal(images), "identity is exact"


def test_color_to_gray_uses_itu_601_luma():
    red = torch.tensor([255, 0, 0]).byte().view(1, 3, 1, 1).repeat(1, 1, 4, 4)
    assert resize(red, (4, 4), 1).unique().tolist() == [76]


def test_batches_are_float32_in_0_1(config):
    data = data_of(config)
    batch = next(iter(data.train_dataloader()))
    assert batch[0].dtype == torch.uint8
    images, labels = data.on_after_batch_transfer(batch, 0)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < 0.01
    assert 0.99 < images.max() <= 1
    assert torch.equal(images, batch[0].float() / 255)
    assert labels.dtype == torch.int64


def test_a_batch_is_one_index_operation(config):
    data = data_of(config, "data.limit=100", "data.batch_size=32")
    calls = []
    get = data.train.__class__.__getitem__
    data.train.__class__.__getitem__ = lambda self, indices: (
        calls.append(len(indices)),
        get(self, indices),
    )[1]
    try:
        list(data.train_dataloader())
    finally:
        data.train.__class__.__getitem__ = get
    assert calls == [32, 32, 32, 4]


def batches(**changes):
    settings = {"n": 100, "batch_size": 32, "seed": 0, "shuffle": True, **changes}
    sampler = EpochSampler(**settings)
    out = [batch.tolist() for batch in sampler]
    assert len(out) == len(sampler) or "position" in changes
    return out


def test_epoch_order_depends_on_seed_and_epoch_only():
    first = batches()
    torch.manual_seed(12345)
    assert batches() == first
    assert sorted(i for batch in first for i in batch) == list(range(100)), (
        "every image once an epoch"
    )
    assert batches(seed=1) != first
    assert batches(position=lambda: (1, 0)) != first


def test_resumed_epoch_starts_at_the_next_batch():
    assert batches(position=lambda: (0, 2)) == batches()[2:]


def test_single_leftover_image_joins_the_previous_batch():
    assert [len(batch) for batch in batches(n=65)] == [32, 33]
    assert [len(batch) for batch in batches(n=66)] == [32, 32, 2]
    assert [len(batch) for batch in batches(n=1)] == [1]


def test_ranks_get_equally_many_batches():
    parts = [batches(rank=rank, world=3, batch_size=10) for rank in range(3)]
    assert len({len(part) for part in parts}) == 1
    seen = [i for part in parts for batch in part for i in batch]
    assert set(seen) == set(range(100))
    assert len(seen) == 102


def test_each_rank_gets_an_image_even_if_there_are_more_ranks_than_images():
    assert [batches(n=1, rank=rank, world=4) for rank in range(4)] == [[[0]]] * 4
    parts = [batches(n=2, rank=rank, world=5) for rank in range(5)]
    assert [len(part[0]) for part in parts] == [1] * 5


def test_binarize_uses_pixel_values_as_probabilities():
    images = torch.tensor([0.0, 0.2, 0.7, 1.0]).view(4, 1, 1, 1).expand(4, 1, 100, 100)
    drawn = binarize(images, torch.Generator().manual_seed(0))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert drawn.mean(dim=(1, 2, 3)).tolist() == pytest.approx([0, 0.2, 0.7, 1], abs=0.02)


def epoch_batches(config, tmp_path, *overrides):
    """Return the training images of two epochs and the validation images, as the model gets
    them."""
    cfg = config(
        *TINY,
        "model=draw",
        "data.val_size=20",
        "data.limit=40",
        "test=false",
        "trainer.max_epochs=2",
        *overrides,
    )
    torch.manual_seed(0)
    data = build.datamodule(cfg)
    model = build.model(cfg, data)
    seen = {"training_step": [], "validation_step": []}
    for name, batches in seen.items():
        step = getattr(model, name)
        setattr(
            model,
            name,
            lambda batch, i, step=step, batches=batches: (
                batches.append(batch[0].clone()) or step(batch, i)
            ),
        )
    tmp_path.mkdir()
    build.trainer(cfg, tmp_path).fit(model, datamodule=data)
    half = len(seen["training_step"]) // 2
    return (
        torch.cat(seen["training_step"][:half]),
        torch.cat(seen["training_step"][half:]),
        seen["validation_step"],
        data,
    )


def test_binarization_differs_each_epoch_in_training_only(config, tmp_path):
    first, second, validation, data = epoch_batches(config, tmp_path / "a", "data.binarize=true")
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first.sum(0), second.sum(0)), "another draw"
    assert torch.equal(validation[0], validation[1]), "the same draw"
    assert data.pixel_kind == "binarized each epoch"
    again, *_ = epoch_batches(config, tmp_path / "b", "data.binarize=true")
    assert torch.equal(first, again)
    other, *_, elsewhere = epoch_batches(config, tmp_path / "c", "data.binarize=true", "seed=1")
    assert not torch.equal(first.sum(0), other.sum(0))
    assert torch.equal(data.val.images, elsewhere.val.images), (
        "every run is evaluated on the same draw"
    )


def test_place_randomly_keeps_images_complete_and_covers_all_places():
    images = torch.rand(500, 2, 3, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    sheets = place_randomly(images, (5, 9), torch.Generator().manual_seed(1))
    assert sheets.shape == (500, 2, 5, 9)
    places = set()
    for image, sheet in zip(images, sheets, strict=True):
        rows, columns = (sheet.sum(0).sum(k).nonzero().flatten() for k in (1, 0))
        top, left = rows[0].item(), columns[0].item()
        assert torch.equal(sheet[:, top : top + 3, left : left + 4], image)
        assert sheet.sum().item() == pytest.approx(image.sum().item(), rel=1e-5), "black around it"
        places.add((top, left))
    assert places == {(top, left) for top in range(3) for left in range(6)}


def test_crop_keeps_the_center():
    images = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8)
    assert resize(images, (4, 4), 1, crop=0.5).equal(images[..., 2:6, 2:6])
    enlarged = resize(images[..., 2:6, 2:6], (8, 8), 1)
    assert resize(images, (8, 8), 1, crop=0.5).equal(enlarged)
    assert resize(images, (1, 1), 1, crop=0.01).item() in range(27, 37), "of the middle pixels"


def test_images_keep_their_aspect_ratio_as_photos_do_for_prediction(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    for size in ((8, 16), (16, 8), (12, 16)):
        photo = decode(tmp_path / "photo.png", Fit(size, 3))
        difference = (resize(images, size, 3)[0].int() - photo.int()).abs()
        assert difference[:, 1:-1, 1:-1].max() <= 1, "at its edge Pillow looks beyond the part"


def test_images_of_the_right_size_are_cropped_as_photos_are_for_prediction(config):
    settings = ("model=fc", "data=digits", "data.val_size=0")
    whole = data_of(config, *settings).train.images
    cropped = data_of(config, *settings, "data.crop=0.5").train.images
    assert cropped.equal(resize(whole[..., 7:21, 7:21], (28, 28), 1))


def test_files_are_cropped_once(config, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "1.png")
    data = data_of(config, "model=fc", "data=folder", f"data.root={tmp_path}", "data.size=16",
                   "data.crop=0.5", "data.interpolation=bicubic", "data.val_size=0",
                   "data.test_size=0")  # fmt: skip
    center = torch.from_numpy(pixels[8:24, 8:24]).permute(2, 0, 1)
    assert data.train.images[0].equal(center)


@pytest.mark.parametrize(("size", "n"), [(32, 500), (91, 500), (224, 83), (4096, 1)])
def test_fewer_large_images_are_evaluated_at_once(size, n):
    assert fitting_batch((size, size)) == n


def test_moments_are_those_of_all_pixels(monkeypatch):
    pixels = torch.randint(0, 256, (7, 3, 5, 6), dtype=torch.uint8)
    pixels[:, 1] = 77
    monkeypatch.setattr(images, "CHUNK", 60)  # two images at once
    part = images.ImageSet(pixels, torch.zeros(7))
    mean, std = images.channel_moments(part, 30)
    scaled = pixels.numpy().astype(float).transpose(1, 0, 2, 3).reshape(3, -1) / 255
    assert np.allclose(mean.numpy(), scaled.mean(1), rtol=1e-14)
    assert np.allclose(std.numpy(), [scaled[0].std(), 1, scaled[2].std()], rtol=1e-12)


@pytest.mark.parametrize("limit", [0, 1, 0.5])
def test_a_limit_on_validation_leaves_the_test_as_it_is(config, limit):
    data = build.datamodule(config("data=digits", "data.limit=100", "data.val_size=40"))
    data.trainer = pl.Trainer(
        accelerator="cpu", limit_val_batches=limit, logger=False, enable_checkpointing=False
    )
    order = torch.cat(list(data.test_dataloader().sampler))
    assert order.tolist() == list(range(len(data.test)))
    assert torch.cat(list(data.val_dataloader().sampler)).tolist() != list(range(40))
